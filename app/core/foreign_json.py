"""JSON that a replica, an artifact or a caller wrote, or a disk has damaged, read so that nothing in it can do more than
be refused."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

MAX_DEPTH = 100


class ForeignJsonError(ValueError):
    """The error for content that was to be JSON of some type, and is not."""


def read_json(content: bytes | str, kind: type[T] | Any = Any) -> T | Any:
    """Decode a value. Raises ForeignJsonError, also for one that nests lists and objects deeper than MAX_DEPTH."""
    try:
        value = msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise ForeignJsonError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except (msgspec.MsgspecError, ValueError) as error:  # UTF-8 that is none is no MsgspecError
        raise ForeignJsonError(str(error)) from None
    if nests_deeper(value, MAX_DEPTH):
        raise ForeignJsonError(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def nests_deeper(value: Any, limit: int) -> bool:
    """Return whether lists and objects are nested in the value at more than `limit` levels."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for container in level
            if isinstance(container, (list, dict))
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (list, dict))
        ]
        if not level:
            return False
    return True
