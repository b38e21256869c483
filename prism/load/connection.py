"""Keep-alive connection of a run: sends a request on demand, reads the response, and reports it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from prism.load.response import BadResponse, ResponseReader


class Run(Protocol):
    """Interface through which a connection reports to its run. Times are monotonic seconds."""

    def is_open(self, connection: Connection) -> None: ...

    def is_free(self, connection: Connection, now: float) -> None: ...

    def has_answer(self, status: int, due: float, sent: float, now: float) -> None: ...

    def is_lost(self, connection: Connection, was_asked: bool, reason: str) -> None: ...


class Connection(asyncio.Protocol):
    """Connection that carries one request at a time. received_bytes counts heads and bodies."""

    __slots__ = ("_asked", "_due", "_reader", "_reason", "_run", "_sent", "_transport", "received_bytes")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._reader = ResponseReader()
        self._transport: asyncio.Transport | None = None
        self._asked = False
        self._due = self._sent = 0.0
        self._reason = "the connection was lost before the answer"
        self.received_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._run.is_open(self)

    def send(self, request: bytes, due: float, now: float) -> None:
        self._due, self._sent, self._asked = due, now, True
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if not self._asked:
            self.close()
            return
        try:
            if not self._reader.feed(data):
                return
        except BadResponse as error:
            self._reason = f"no answer could be read: {error}"
            self.close()
            return
        self._answered()

    def connection_lost(self, error: Exception | None) -> None:
        if self._asked and self._reader.end():
            self._answered()
        self._run.is_lost(self, self._asked, self._reason)

    def close(self) -> None:
        """Close the connection without sending what is still buffered."""
        if self._transport is not None:
            self._transport.abort()

    def _answered(self) -> None:
        now = monotonic()
        self._asked = False
        self._run.has_answer(self._reader.status, self._due, self._sent, now)
        if self._reader.keep_alive:
            self._run.is_free(self, now)
        else:
            self.close()
