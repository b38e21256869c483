"""Bounds how many requests each caller makes in a sliding window."""

from __future__ import annotations

import math

from msgspec import Struct

from app.errors import RateLimited

UNLIMITED = ""
"""The name of callers who are not limited."""


class Allowance(Struct, frozen=True, gc=False):
    """The requests left to a caller in this window, and the seconds until the window has wholly moved on."""

    limit: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """Return the RateLimit fields (draft-ietf-httpapi-ratelimit-headers, its widely read three-field form)."""
        return {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.reset_seconds),
        }

    @property
    def header_lines(self) -> str:
        """Write the same fields as lines, each with its line end; made at once, for the protocol door's sake."""
        return (
            f"ratelimit-limit: {self.limit}\r\nratelimit-remaining: {self.remaining}\r\n"
            f"ratelimit-reset: {self.reset_seconds}\r\n"
        )


class _Count:
    """The requests of one caller in the present window and the one before. ends: when the present window does."""

    __slots__ = ("current", "ends", "previous")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.current = 0
        self.previous = 0


class RateLimiter:
    """A sliding window for each caller, in constant time and memory.

    The window slides by weighing the previous fixed window with the part of it still in view, which never lets
    more than the limit through in a fixed window and is off by a few percent at most in between. A log of times
    would be exact and cost memory in proportion to the limit. Times are monotonic seconds from the caller.
    """

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._counts: dict[str, _Count] = {}
        self._sweep_at = 0.0

    @property
    def callers(self) -> int:
        """The number of callers that are remembered."""
        return len(self._counts)

    def take(self, caller: str, now: float) -> Allowance | None:
        """Count one request. None where there is no limit, and for UNLIMITED. Raises RateLimited past it."""
        limit = self._limit
        if not (limit and caller):
            return None
        count = self._counts.get(caller)
        if count is None or now >= count.ends:
            count = self._next_window(caller, now)
        left = count.ends - now
        seen = count.current + 1.0
        if count.previous:
            seen += count.previous * left / self._window_seconds
        if seen > limit:
            raise self._refusal(count, left)
        count.current += 1
        return Allowance(limit, int(limit - seen), int(left) + 1)

    def _next_window(self, caller: str, now: float) -> _Count:
        start = now - now % self._window_seconds
        self._forget_idle(start, now)
        count = self._counts.get(caller)
        if count is None:
            count = self._counts[caller] = _Count(start + self._window_seconds)
        else:
            count.previous = count.current if count.ends >= start else 0
            count.current = 0
            count.ends = start + self._window_seconds
        return count

    def _refusal(self, count: _Count, left: float) -> RateLimited:
        refusal = RateLimited(
            f"More than {self._limit} requests in {self._window_seconds:g} s.",
            retry_after_seconds=self._wait(count, self._window_seconds - left),
        )
        refusal.headers.update(Allowance(self._limit, 0, int(left) + 1).headers)
        return refusal

    def _wait(self, count: _Count, elapsed: float) -> int:
        """Return the whole seconds until one more request fits."""
        room = self._limit - 1 - count.current
        if room >= 0 and count.previous:  # the previous window must fade until it leaves room for one
            fits_at = self._window_seconds * (1 - room / count.previous)
        else:  # this window must end, then fade as the previous one
            fade = 1 - (self._limit - 1) / count.current
            fits_at = self._window_seconds * (1 + max(0.0, fade))
        return max(1, math.ceil(fits_at - elapsed))

    def _forget_idle(self, start: float, now: float) -> None:
        """Drop callers not seen in the last two windows, so that addresses do not pile up. Works once in a window."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._window_seconds
        self._counts = {caller: count for caller, count in self._counts.items() if count.ends >= start}
