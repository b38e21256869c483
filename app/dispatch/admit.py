"""Who is let in: API keys and rate limits. Bounded queues, the third gate, are in batch.py."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Callable, Iterable

from msgspec import Struct

from app.dispatch.wrong_keys import WrongKeys
from app.errors import NotFound, PrismError, RateLimited, Unauthorized

KEY_HINT = "Send a valid key as `X-API-Key: …` or `Authorization: Bearer …`."


REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a caller may name its own request."""


def sent_key(x_api_key: str | None, authorization: str) -> str:
    """The key in the values of these two headers, "" for none."""
    if x_api_key is not None:
        return x_api_key
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def header_fields(lines: str) -> dict[str, str]:
    """Header lines, each with its line end, by name."""
    return dict(line.split(": ", 1) for line in lines.splitlines())


class Keys:
    """The keys of this server: API keys and admin keys from its settings, and those made while it runs.

    Only keyed digests are kept and looked up, so the time of a look-up says nothing about a key and does not
    grow with their number.
    """

    def __init__(self, api_keys: Iterable[str] = (), admin_keys: Iterable[str] = ()) -> None:
        self._secret = secrets.token_bytes(32)
        self._api = {self._sealed(key) for key in api_keys}
        self._admin = {self._sealed(key) for key in admin_keys}
        self._made: dict[str, bytes] = {}
        self._valid = self._api | self._admin
        self._on_change: list[Callable[[], None]] = []
        self.required = bool(self._valid)
        """Whether nobody is let in without one. Keys made while the server runs do not close one that is open."""

    def _sealed(self, key: str) -> bytes:
        return self._seal(hashlib.sha256(key.encode()).digest())

    def _seal(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret, digest_size=16).digest()

    @property
    def of_admins(self) -> str:
        """The setting that holds the keys of those who may change something here; "" where everyone may."""
        if self._admin:
            return "PRISM_ADMIN_KEYS"
        return "PRISM_API_KEYS" if self._api else ""

    def is_admin(self, key: str) -> bool:
        """Whether its holder may change something. Without admin keys the API keys of the settings are those."""
        return self._sealed(key) in (self._admin or self._api)

    def caller(self, key: str, address: str, must_have_key: bool | None = None) -> str:
        """The name under which this caller is counted: its key's digest, else its address.

        must_have_key: None is as the settings say. Raises Unauthorized where one is needed and this is none.
        """
        known = self.known(key)
        if known or not (self.required if must_have_key is None else must_have_key):
            return known or address
        raise Unauthorized("The API key is not known here." if key else "No API key was sent.", hint=KEY_HINT)

    def known(self, key: str) -> str:
        """The name under which the holder of this key is counted, "" if it is not valid."""
        sealed = self._sealed(key) if key else b""
        return sealed.hex() if sealed in self._valid else ""

    def add(self, id: str, digest: str) -> None:
        """A key made while the server runs. digest: the key's SHA-256 in hexadecimal."""
        self._made[id] = self._seal(bytes.fromhex(digest))
        self._changed()

    def remove(self, id: str) -> None:
        """From now on that key is not valid, also on connections that used it."""
        self._made.pop(id, None)
        self._changed()

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever a key comes or goes: what was concluded from keys holds no longer."""
        self._on_change.append(call)

    def _changed(self) -> None:
        self._valid = self._api | self._admin | set(self._made.values())
        for call in self._on_change:
            call()


def every_ref(ref: str) -> bool:
    return True


def all_of_it(error: PrismError) -> PrismError:
    return error


class Admission(Struct, frozen=True):
    """Whom one surface lets in to predict, and for what it answers.

    wrong_keys: how many came from where; of this surface alone if its callers share the address of a tunnel.
    must_have_key: whether a caller without one is refused at this moment. has_host: whether it goes by that name.
    serves: whether it answers for this reference; one for which it does not does not exist there.
    anonymous: the name under which all callers without a key are counted; "" counts each under its address.
    tell: what of an error is told there.
    """

    keys: Keys
    must_have_key: Callable[[], bool]
    has_host: Callable[[str], bool]
    wrong_keys: WrongKeys
    serves: Callable[[str], bool] = every_ref
    anonymous: str = ""
    tell: Callable[[PrismError], PrismError] = all_of_it

    def caller(self, key: str, address: str) -> str:
        """The name under which this caller is counted. Raises RateLimited after too many wrong keys, Unauthorized."""
        if not key:
            return self.keys.caller("", self.anonymous or address, self.must_have_key())
        self.wrong_keys.check_caller(address, key)
        try:
            caller = self.keys.caller(key, self.anonymous or address, self.must_have_key())
        except Unauthorized:
            self.wrong_keys.note(address, key)
            raise
        if self.keys.known(key):
            self.wrong_keys.note_right(address, key)
        return caller

    def is_guess(self, key: str) -> bool:
        """Whether a key is wrong where one is needed."""
        return bool(key) and not self.keys.known(key) and self.must_have_key()

    def admit(self, key: str, address: str, ref: str) -> str:
        """Let a caller ask for this model; returns as `caller`. Raises RateLimited, Unauthorized, then NotFound."""
        caller = self.caller(key, address)
        if not self.serves(ref):
            raise NotFound(f"There is no model `{ref[:200]}`.", ref=ref[:200])
        return caller


class Allowance(Struct, frozen=True, gc=False):
    """What is left to a caller: requests in this window, and seconds until the window has wholly moved on."""

    limit: int
    remaining: int
    reset_seconds: int

    @property
    def header_lines(self) -> str:
        """The RateLimit header fields (draft-ietf-httpapi-ratelimit-headers, its widely read three-field form)."""
        return (
            f"ratelimit-limit: {self.limit}\r\nratelimit-remaining: {self.remaining}\r\n"
            f"ratelimit-reset: {self.reset_seconds}\r\n"
        )


class _Count:
    """Of one caller. ends: when the present window does."""

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
        """How many callers are remembered."""
        return len(self._counts)

    def take(self, caller: str, now: float) -> Allowance | None:
        """Count one request. None where there is no limit. Raises RateLimited past it."""
        limit = self._limit
        if not limit:
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
        refusal.headers.update(header_fields(Allowance(self._limit, 0, int(left) + 1).header_lines))
        return refusal

    def _wait(self, count: _Count, elapsed: float) -> int:
        """Whole seconds until one more request fits."""
        room = self._limit - 1 - count.current
        if room >= 0 and count.previous:  # the previous window must fade until it leaves room for one
            fits_at = self._window_seconds * (1 - room / count.previous)
        else:  # this window must end, then fade as the previous one
            fade = 1 - (self._limit - 1) / count.current
            fits_at = self._window_seconds * (1 + max(0.0, fade))
        return max(1, math.ceil(fits_at - elapsed))

    def _forget_idle(self, start: float, now: float) -> None:
        """Once in a window, drop the callers not seen in the last two, so that addresses do not pile up."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._window_seconds
        self._counts = {caller: count for caller, count in self._counts.items() if count.ends >= start}
