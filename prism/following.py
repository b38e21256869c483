"""Following a log: how far it was read, and whether to go on where it broke off. Both clients share it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2

from prism.errors import ConnectionFailed, PrismError
from prism.requests import Call, LogKind, Timeouts, logs
from prism.retries import Retries

SILENCE_SECONDS = 45
"""The server gives a sign of life every 15 s."""

MORE_PATIENT = 3
"""Times as many tries as for other calls: a server that is started again takes some seconds."""


class LogFollower:
    """The log of one model, or of its replica of a number.

    last_id: of the last line that came. is_over: nothing more comes.
    """

    def __init__(self, ref: str, kind: LogKind, tail: int, replica: int | None = None) -> None:
        self._call: Call[list[str]] = logs(ref, tail=tail, kind=kind, replica=replica)
        self._failures = 0
        self.last_id = ""
        self.is_over = False

    def settings(self, timeouts: Timeouts) -> dict[str, Any]:
        """The arguments of `stream`, from its beginning or right behind the last line."""
        timeout = httpx2.Timeout(timeouts.request_seconds, connect=timeouts.connect_seconds, read=SILENCE_SECONDS)
        params = {**self._call.params, "follow": "true", **({"after": self.last_id} if self.last_id else {})}
        return {
            "method": "GET",
            "url": self._call.path,
            "params": params,
            "headers": {"Accept": "text/event-stream"},
            "timeout": timeout,
        }

    def line(self, event: httpx2.ServerSentEvent) -> str | None:
        """What the event says of the log, if it does. Raises ConnectionFailed when the server ends."""
        if event.id and event.id != self.last_id:
            self.last_id, self._failures = event.id, 0
        if event.event == "message":
            return event.data
        if event.event in ("gap", "problem"):
            return f"prism: {event.data}"
        if event.event == "end" and event.data == "closing":
            raise ConnectionFailed("The server ended.", hint="`prism status` shows whether it runs again.", sent=False)
        self.is_over = self.is_over or event.event == "end"
        return None

    def delay_seconds(self, failure: PrismError, retries: Retries) -> float | None:
        """How long to wait before going on after that failure; None to give up."""
        if isinstance(failure, ConnectionFailed):
            failure = ConnectionFailed(failure.detail, hint=failure.hint, sent=False)
        patient = replace(retries, count=retries.count * MORE_PATIENT)
        delay = patient.delay_seconds(self._call, failure, self._failures)
        self._failures += 1
        return delay
