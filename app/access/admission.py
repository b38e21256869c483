"""Decides who may call: whom one surface admits to predict, and for which models."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from app.access.keys import Keys
from app.access.throttle import WrongKeys
from app.errors import NotFound, PrismError, Unauthorized

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a caller may name its own request."""


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
