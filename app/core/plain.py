"""Makes text and values such that every encoder takes them, whatever they came from."""

from __future__ import annotations

from typing import Any, Final

import msgspec

DEPTH_MAX: Final = 32
INTEGER_BITS_MAX: Final = 8192
"""Larger integers are given in hexadecimal: Python refuses to write more than 4,300 decimal digits."""


def valid_text(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which no encoding has; pairs become one character."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def plain(value: Any, depth: int = 0) -> Any:
    """Convert a value to what JSON can express; what it cannot express is named by its type. Never raises.

    A `msgspec.Raw`, which is JSON already, stays as it is.
    """
    if value is None or isinstance(value, bool | float | msgspec.Raw):
        return value
    if isinstance(value, str):
        return valid_text(str.__str__(value))
    if isinstance(value, int):
        return int(value) if value.bit_length() <= INTEGER_BITS_MAX else hex(value)
    if depth > DEPTH_MAX:
        return "…"
    if isinstance(value, dict):
        return {_key(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    return _of_other(value, depth)


def _of_other(value: Any, depth: int) -> Any:
    """Convert records, dates and the like as msgspec does."""
    try:
        built = msgspec.to_builtins(value)
    except Exception:  # whatever the object does when it is looked at
        return f"<{type(value).__name__}>"
    return plain(built, depth + 1)


def _key(key: Any) -> str:
    return valid_text(str.__str__(key)) if isinstance(key, str) else str(plain(key, DEPTH_MAX))
