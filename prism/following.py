"""Following of a log: how far it was read, and whether to continue after an interruption. Both clients use it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2

from prism.errors import ConnectionFailed, PrismError
from prism.requests import Call, Timeouts
from prism.retries import Retries

SILENCE_SECONDS = 45
"""Read timeout. The server sends a keep-alive every 15 s."""

MORE_PATIENT = 3
"""Factor on the number of retries of other calls, because a restart of the server takes some seconds."""


class LogFollower:
    """Position in the log of one model, or of one of its replicas.

    last_id: id of the last line received. is_over: whether the log is complete.
    """

    def __init__(self, call: Call[list[str]]) -> None:
        """Begin with the lines that the call returns."""
        self._call = call
        self._failures = 0
        self.last_id = ""
        self.is_over = False

    def settings(self, timeouts: Timeouts) -> dict[str, Any]:
        """Return the arguments of `stream`, from the beginning or after the last line received."""
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
        """Return the log line in the event, None if it has none.

        Raises ConnectionFailed if the server is shutting down.
        """
        if event.id and event.id != self.last_id:
            self.last_id, self._failures = event.id, 0
        if event.event == "message":
            return event.data
        if event.event in ("gap", "problem"):
            return f"prism: {event.data}"
        if event.event == "end" and event.data == "closing":
            raise ConnectionFailed(
                "The server has stopped.", hint="`prism status` shows whether it runs again.", sent=False
            )
        self.is_over = self.is_over or event.event == "end"
        return None

    def delay_seconds(self, failure: PrismError, retries: Retries) -> float | None:
        """Return how long to wait before continuing after the failure; None to give up."""
        if isinstance(failure, ConnectionFailed):
            failure = ConnectionFailed(failure.detail, hint=failure.hint, sent=False)
        patient = replace(retries, count=retries.count * MORE_PATIENT)
        delay = patient.delay_seconds(self._call, failure, self._failures)
        self._failures += 1
        return delay
