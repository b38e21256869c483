"""Sessions of browsers: who logged in with an admin key need not send it again, for half a day at most."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from time import monotonic

COOKIE = "prism_session"
LIFETIME_SECONDS = 12 * 3600
ID_BYTES = 32


class Sessions:
    """The open sessions, in memory alone: a restart of the server ends them all. now: monotonic seconds."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._ends: dict[str, float] = {}

    def begin(self) -> str:
        """Begin a session. Returns its id, which is all that its holder needs."""
        now = self._now()
        self._ends = {id: ends for id, ends in self._ends.items() if ends > now}
        id = secrets.token_urlsafe(ID_BYTES)
        self._ends[id] = now + LIFETIME_SECONDS
        return id

    def holds(self, id: str) -> bool:
        """Return whether this session began less than LIFETIME_SECONDS ago and was not ended."""
        return self._ends.get(id, 0.0) > self._now()

    def end(self, id: str) -> None:
        self._ends.pop(id, None)
