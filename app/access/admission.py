"""Decides who may call: whom one surface admits to predict, and for which models."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from app.access.keys import Keys
from app.access.throttle import FailedKeyThrottle
from app.errors import NotFound, PrismError, Unauthorized

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""The form of an id that a caller may give its own request."""


def allow_all(ref: str) -> bool:
    return True


def identity(error: PrismError) -> PrismError:
    return error


class Admission(Struct, frozen=True):
    """The callers that one surface admits to predict, and the models that it answers for.

    wrong_keys: counts the wrong keys from each network; for this surface alone if its callers share a tunnel's address.
    must_have_key: whether a caller without a key is refused now. has_host: whether the surface goes by this host name.
    serves: whether it answers for this reference; others do not exist there.
    anonymous: the name under which all callers without a key are counted; "" counts each under its address.
    tell: turns an error into what callers may know of it.
    """

    keys: Keys
    must_have_key: Callable[[], bool]
    has_host: Callable[[str], bool]
    wrong_keys: FailedKeyThrottle
    serves: Callable[[str], bool] = allow_all
    anonymous: str = ""
    tell: Callable[[PrismError], PrismError] = identity

    def caller(self, key: str, address: str) -> str:
        """Return the name under which a caller is counted. Raises RateLimited after too many wrong keys, Unauthorized."""
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
        """Return whether a key was sent that is not valid, while a valid one is needed."""
        return bool(key) and not self.keys.known(key) and self.must_have_key()

    def admit(self, key: str, address: str, ref: str) -> str:
        """Let a caller ask for this model; returns as `caller`. Raises RateLimited, Unauthorized, then NotFound."""
        caller = self.caller(key, address)
        if not self.serves(ref):
            raise NotFound(f"There is no model `{ref[:200]}`.", ref=ref[:200])
        return caller
