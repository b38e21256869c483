"""Decides who may change something, on every surface for admins: REST, pages and gRPC."""

from __future__ import annotations

from msgspec import Struct

from app.access.keys import Keys
from app.access.throttle import FailedKeyThrottle
from app.errors import Forbidden, Unauthorized


class AdminCheck(Struct, frozen=True):
    """Checks that a key is an admin's. wrong_keys: counts the wrong keys from each network."""

    keys: Keys
    wrong_keys: FailedKeyThrottle

    def check(self, key: str, address: str, hint: str, *, any_key: bool = False) -> None:
        """Let an admin pass, and everyone where no key is set.

        key: "" for none. hint: how this surface takes a key. any_key: whether every valid key will do.
        Raises RateLimited after too many wrong keys, Unauthorized, Forbidden.
        """
        if not self.keys.of_admins:
            return
        self.wrong_keys.check(address)
        if self.keys.is_admin(key):
            return
        if not self.keys.known(key):
            if key:
                self.wrong_keys.note(address, key)
            raise Unauthorized(
                "The API key is not valid for this server." if key else "No admin key was sent.", hint=hint
            )
        if not any_key:
            raise Forbidden("This API key may only predict and read about models.", hint=hint)
