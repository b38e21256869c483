"""Bounds the wrong keys from each network, so that nobody finds a key by trying."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from time import monotonic

from app.errors import RateLimited

ATTEMPTS = 10
WINDOW_SECONDS = 60.0
PAIRS_MAX = 16_384
"""Most keys in use that are remembered, each with a network that it came from."""


class FailedKeyThrottle:
    """The wrong keys that came from each network in a minute.

    After ten different ones no key from that network is looked at until the minute is over, not even a right one:
    else a guess would still learn whether it is right. Callers that share an address, as behind one proxy, share the
    bound. The same wrong key sent again, as by a program with an old key, is no further guess. Where a model is
    asked, a key that was right from there before the bound was reached stays right: one caller's guesses must not
    take the model from the others.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tried: dict[str, tuple[set[int], float]] = {}
        """For each network, the hashes of its wrong keys, and when its minute ends."""
        self._forget_at = 0.0
        self._in_use: set[tuple[str, int]] = set()
        """Networks, each with the hash of a right key that came from there."""
        self._on_bound: list[Callable[[str], None]] = []

    @property
    def addresses(self) -> int:
        """The number of networks that are remembered."""
        return len(self._tried)

    def on_bound(self, call: Callable[[str], None]) -> None:
        """Have `call` called with each network that reaches the bound, as soon as it does."""
        self._on_bound.append(call)

    def bounded(self, address: str) -> bool:
        """Return whether no key from this address's network is looked at now."""
        return bool(self._tried) and self._seconds_left(network_of(address)) > 0

    def check(self, address: str) -> None:
        """Refuse an address whose network has reached the bound. Raises RateLimited."""
        left = self._seconds_left(network_of(address))
        if left > 0:
            raise RateLimited(
                f"{ATTEMPTS} wrong keys came from {address} within {WINDOW_SECONDS:g} s; no key from there is checked now.",
                retry_after_seconds=max(1, math.ceil(left)),
            )

    def check_caller(self, address: str, key: str) -> None:
        """Do as `check`, but let a key pass that was right from this network before."""
        if self._tried and (network_of(address), hash(key)) not in self._in_use:
            self.check(address)

    def note(self, address: str, key: str) -> None:
        """Count a wrong key."""
        now, network = self._clock(), network_of(address)
        if network not in self._tried or self._tried[network][1] <= now:
            self._forget(now)
            self._tried[network] = set(), now + WINDOW_SECONDS
        tried = self._tried[network][0]
        tried.add(hash(key))
        if len(tried) == ATTEMPTS:
            for call in self._on_bound:
                call(network)

    def _forget(self, now: float) -> None:
        """Drop networks whose minute is over; once a minute, as there may be many."""
        if now >= self._forget_at:
            self._tried = {network: tries for network, tries in self._tried.items() if tries[1] > now}
            self._forget_at = now + WINDOW_SECONDS

    def note_right(self, address: str, key: str) -> None:
        """Remember that a right key is in use there."""
        if len(self._in_use) >= PAIRS_MAX:
            self._in_use.clear()
        self._in_use.add((network_of(address), hash(key)))

    def _seconds_left(self, network: str) -> float:
        tried, ends = self._tried.get(network, (frozenset(), 0.0))
        return ends - self._clock() if len(tried) >= ATTEMPTS else 0.0


@lru_cache(1024)
def network_of(address: str) -> str:
    """Return the network that one caller may have for itself: an IPv4 address, or 64 bits of an IPv6 address."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return address
    return str(ip.ipv4_mapped) if ip.ipv4_mapped else str(IPv6Address(int(ip) >> 64 << 64))
