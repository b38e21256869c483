"""The callers of one surface, whichever protocol they speak."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from app.access.admission import Admission
from app.core.rollout.keys import NOBODY, Identity
from app.errors import PrismError


class Caller(Struct, frozen=True):
    """The sender of a request. key: "" for none. is_direct: whether nothing shows a proxy or tunnel in between.

    identity: by which an experiment may tell callers apart.
    """

    key: str
    address: str
    request_id: str
    is_direct: bool = False
    identity: Identity = NOBODY


class Callers:
    """Admits callers. refusals: counts those who are refused, by error code."""

    def __init__(self, admission: Admission, refusals: Counter[str]) -> None:
        self._admission = admission
        self._refusals = refusals

    def admit(self, caller: Caller, ref: str) -> str:
        """Return the name under which the caller is counted. Raises RateLimited, Unauthorized, then NotFound."""
        try:
            return self._admission.admit(caller.key, caller.address, ref, caller.is_direct)
        except PrismError as error:
            self._refusals[error.code] += 1
            raise

    def identify(self, caller: Caller) -> str:
        """Return the name under which the caller is counted, before it is known which model is asked.

        Raises RateLimited, Unauthorized.
        """
        try:
            return self._admission.caller(caller.key, caller.address, caller.is_direct)
        except PrismError as error:
            self._refusals[error.code] += 1
            raise
