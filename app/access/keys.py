"""API keys and admin keys: which a request sent, and whose it is."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable

from app.errors import Unauthorized

KEY_HINT = "Send a valid key as `X-API-Key: …` or `Authorization: Bearer …`."


def extract_api_key(x_api_key: str | None, authorization: str) -> str:
    """Return the key that these two headers carry, "" for none."""
    if x_api_key is not None:
        return x_api_key
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


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
        """Whether every caller needs a key. Keys made while the server runs do not close a server that began open."""

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
        """Return whether the key's holder may change something. Without admin keys, the settings' API keys may."""
        return self._sealed(key) in (self._admin or self._api)

    def caller(self, key: str, address: str, must_have_key: bool | None = None) -> str:
        """Return the name under which this caller is counted: its key's digest, else its address.

        must_have_key: None follows the settings. Raises Unauthorized where a key is needed and this one is not valid.
        """
        known = self.known(key)
        if known or not (self.required if must_have_key is None else must_have_key):
            return known or address
        raise Unauthorized(
            "The API key is not valid for this server." if key else "No API key was sent.", hint=KEY_HINT
        )

    def known(self, key: str) -> str:
        """Return the name under which the holder of this key is counted, "" if the key is not valid."""
        sealed = self._sealed(key) if key else b""
        return sealed.hex() if sealed in self._valid else ""

    def add(self, id: str, digest: str) -> None:
        """Accept a key that was made while the server runs. digest: the key's SHA-256 in hexadecimal."""
        self._made[id] = self._seal(bytes.fromhex(digest))
        self._changed()

    def remove(self, id: str) -> None:
        """Stop accepting a key, also on connections that used it."""
        self._made.pop(id, None)
        self._changed()

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever a key comes or goes. Conclusions drawn from the old keys are then void."""
        self._on_change.append(call)

    def _changed(self) -> None:
        self._valid = self._api | self._admin | set(self._made.values())
        for call in self._on_change:
            call()
