"""Decides who may call: whom one surface admits to predict, and for which models."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from app.access.hosts import is_loopback
from app.access.keys import Keys
from app.access.rate_limit import UNLIMITED
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
    limits_owner: whether those are limited, too, who need no key because they are on this machine, and admins on pages.
    tell: turns an error into what callers may know of it.
    """

    keys: Keys
    must_have_key: Callable[[], bool]
    has_host: Callable[[str], bool]
    wrong_keys: FailedKeyThrottle
    serves: Callable[[str], bool] = allow_all
    anonymous: str = ""
    limits_owner: bool = True
    tell: Callable[[PrismError], PrismError] = identity

    def caller(self, key: str, address: str, is_direct: bool = False) -> str:
        """Return the name under which a caller is counted.

        is_direct: whether nothing shows a proxy or a tunnel between the caller and this server, see `is_direct`.
        Raises RateLimited after too many wrong keys, Unauthorized.
        """
        without_key = self.without_key(address, is_direct)
        if not key:
            return self.keys.caller("", without_key, self.must_have_key())
        self.wrong_keys.check_caller(address, key)
        try:
            caller = self.keys.caller(key, without_key, self.must_have_key())
        except Unauthorized:
            self.wrong_keys.note(address, key)
            raise
        if self.keys.known(key):
            self.wrong_keys.note_right(address, key)
        return caller

    def without_key(self, address: str, is_direct: bool) -> str:
        """Return the name under which a caller without a key is counted, if one is admitted.

        The owner is who calls from this machine while no key is configured. A tunnel's callers arrive from this
        machine, too, so `is_direct` counts as well as the address.
        """
        if is_direct and not (self.limits_owner or self.keys.required) and is_loopback(address):
            return UNLIMITED
        return self.anonymous or address

    def on_page(self, key: str, address: str, is_direct: bool) -> str:
        """Return the name under which the prediction of an admin is counted who makes it on a page."""
        if self.keys.required and not self.limits_owner:
            return UNLIMITED
        return self.keys.known(key) or self.without_key(address, is_direct)

    def is_guess(self, key: str) -> bool:
        """Return whether a key was sent that is not valid, while a valid one is needed."""
        return bool(key) and not self.keys.known(key) and self.must_have_key()

    def admit(self, key: str, address: str, ref: str, is_direct: bool = False) -> str:
        """Let a caller ask for this model; returns as `caller`. Raises RateLimited, Unauthorized, then NotFound."""
        caller = self.caller(key, address, is_direct)
        if not self.serves(ref):
            raise NotFound(f"There is no model `{ref[:200]}`.", ref=ref[:200])
        return caller
