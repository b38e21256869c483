"""How many wrong keys came for what is for admins: so few that nobody finds a key by trying."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

from app.errors import RateLimited

ATTEMPTS = 10
WINDOW_SECONDS = 60.0


class WrongKeys:
    """By address: ten different ones in a minute, then no key from there is looked at until that minute is over.

    Not even a right one: else a guess would still learn whether it is. So who shares an address, as behind one proxy,
    shares the bound. The same wrong key again, as a program with an old one sends it, is no further guess.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tried: dict[str, tuple[set[int], float]] = {}
        """Of each address: hashes of its wrong keys, and when its minute ends."""

    @property
    def addresses(self) -> int:
        """How many are remembered."""
        return len(self._tried)

    def check(self, address: str) -> None:
        """Raises RateLimited past the bound."""
        tried, ends = self._tried.get(address, (frozenset(), 0.0))
        left = ends - self._clock()
        if len(tried) >= ATTEMPTS and left > 0:
            raise RateLimited(
                f"{ATTEMPTS} wrong keys came from {address} within {WINDOW_SECONDS:g} s; no key from there is looked at now.",
                retry_after_seconds=max(1, math.ceil(left)),
            )

    def note(self, address: str, key: str) -> None:
        now = self._clock()
        if address not in self._tried or self._tried[address][1] <= now:
            self._tried = {each: one for each, one in self._tried.items() if one[1] > now}
            self._tried[address] = set(), now + WINDOW_SECONDS
        self._tried[address][0].add(hash(key))
