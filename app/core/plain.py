"""Makes text and values such that every encoder takes them, whatever they came from."""

from __future__ import annotations

from typing import Any, Final

import msgspec

DEPTH_MAX: Final = 32
INTEGER_BITS_MAX: Final = 8192
"""Python refuses to write out integers of more than 4,300 digits."""


def valid_text(text: str) -> str:
    """The text with U+FFFD in place of each lone surrogate, which no encoding has; pairs become their character."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def plain(value: Any, depth: int = 0) -> Any:
    """What JSON has a word for; what has none is named by its type. It never raises.

    What is JSON already stays as it is (`msgspec.Raw`).
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
        return {_key(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each, depth + 1) for each in value]
    return _of_other(value, depth)


def _of_other(value: Any, depth: int) -> Any:
    """Records, dates and the like, as msgspec writes them."""
    try:
        built = msgspec.to_builtins(value)
    except Exception:  # whatever the object does when it is looked at
        return f"<{type(value).__name__}>"
    return plain(built, depth + 1)


def _key(key: Any) -> str:
    return valid_text(str.__str__(key)) if isinstance(key, str) else str(plain(key, DEPTH_MAX))
