"""What an experiment tells callers apart by: which part of a request is the key, and how it is read."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from app.errors import BadInput

HEADER = "X-Prism-Key"
QUERY, BODY = "query:", "body:"
QUERY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FIELDS = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,3}")
BODY_BYTES_MAX = 1 << 16
"""A larger body is not searched for a key: reading it would hold up all other requests for a third of a millisecond and more."""

Value = str | int | list[str | int] | None


class Identity(Struct, frozen=True):
    """What a request says of who sent it, besides its body; "" for nothing.

    header: the value of X-Prism-Key. query: the query string. api_key: as it was sent.
    """

    header: str = ""
    query: str = ""
    api_key: str = ""


NOBODY = Identity()


class KeySource(Struct, frozen=True):
    """Where the key of a request is found. query: name of a parameter. fields: path of members of the JSON body.

    The header comes first, then the parameter or the member, then the API key.
    """

    query: str = ""
    fields: tuple[str, ...] = ()


def key_source(text: str) -> KeySource:
    """Read `query:user`, `body:user_id`, or `header` or "", which add nothing to the header and the API key.

    Raises BadInput for anything else.
    """
    name = text.removeprefix(QUERY)
    if text.startswith(QUERY) and QUERY_NAME.fullmatch(name):
        return KeySource(query=name)
    name = text.removeprefix(BODY)
    if text.startswith(BODY) and FIELDS.fullmatch(name):
        return KeySource(fields=tuple(name.split(".")))
    if text in ("", "header"):
        return KeySource()
    raise BadInput(
        f"`{text[:100]}` does not say where the key of a request is.",
        hint=f"`header` takes it from {HEADER}; `query:user` from a parameter, `body:user_id` from a member of the body.",
        field="key",
    )


def key_of(source: KeySource, identity: Identity, body: bytes) -> str:
    """Return the key of a request; "" if it has none. body: its JSON; b"" if it is not JSON.

    An API key is never the key itself, but its digest.
    """
    key = identity.header
    if not key and source.query:
        key = parse_qs(identity.query).get(source.query, [""])[0]
    elif not key and source.fields and len(body) <= BODY_BYTES_MAX:
        key = _member(body, source.fields)
    if not key and identity.api_key:
        key = "api-key " + sha256(identity.api_key.encode("utf-8", "surrogatepass")).hexdigest()
    return key


def sealed(key: str, salt: str) -> str:
    """Return the digest under which a key is recorded, so that records neither show it nor join two experiments."""
    return blake2b(f"{salt} {key}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _member(body: bytes, fields: tuple[str, ...]) -> str:
    """Return a text or whole number in a JSON object, also as the only item of a list. All else is skipped over."""
    try:
        value = _decoder(fields).decode(body)
        for _ in fields:
            value = value.member
    except (msgspec.DecodeError, RecursionError, AttributeError):
        return ""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else ""
    return "" if value is None else str(value)


@lru_cache(maxsize=64)
def _decoder(fields: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    wanted: Any = Value
    for name in reversed(fields):
        wanted = msgspec.defstruct("Members", [("member", wanted | None, None)], rename={"member": name})
    return msgspec.json.Decoder(wanted)
