"""Between what stands in a field of a form and what stands in a request: text there, a JSON value here."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
WITH_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+", re.ASCII)
LONGEST_NUMBER = 400
LONGEST_SHOWN = 40
MAX_DEPTH = 100
"""As a replica reads it: model_container/bodies/json_dialects.py."""


class Unreadable(ValueError):
    """What is wrong with a field's text, as a sentence for the person who wrote it."""


def shown(text: str) -> str:
    """The text as an error message names it."""
    text = " ".join(text.split())
    return f"`{text}`" if len(text) <= LONGEST_SHOWN else f"`{text[: LONGEST_SHOWN - 1]}…`"


def number(text: str) -> int | float:
    """Raises Unreadable for what is no number, or beyond a double."""
    text = text.strip()
    if not NUMBER.fullmatch(text) or len(text) > LONGEST_NUMBER:
        hint = " Write it with a point." if WITH_COMMA.fullmatch(text) else ""
        raise Unreadable(f"{shown(text)} is not a number.{hint}")
    value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if not -sys.float_info.max <= value <= sys.float_info.max:
        raise Unreadable(f"{shown(text)} is beyond the range of a double.")
    return value


def whole_number(text: str) -> int:
    value = number(text)
    if value != int(value):
        raise Unreadable(f"{shown(text)} is not a whole number.")
    return int(value)


def any_value(text: str) -> Any:
    """A number, true or false, or text in quotes, where it reads as one; else the text as it is."""
    stripped = text.strip()
    if NUMBER.fullmatch(stripped):
        return number(stripped)
    if stripped in ("true", "false") or (len(stripped) > 1 and stripped[0] == stripped[-1] == '"'):
        try:
            return json.loads(stripped)
        except ValueError:
            return text
    return text


def parse_json(text: str) -> Any:
    """Raises Unreadable with the place of the first thing that is no JSON."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Unreadable(f"This is not JSON: {error.msg.lower()} at {where}.") from error
    except (RecursionError, ValueError) as error:
        raise Unreadable(f"This is not JSON: {error}.") from error
    if is_deep(value):
        raise Unreadable(f"This nests lists and objects deeper than {MAX_DEPTH} levels.")
    return value


def is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for one in level
            if isinstance(one, (list, dict))
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, (list, dict)) for one in level)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON; a missing value is written null")


def text_of(value: Any) -> str:
    """How a value stands in its field; null is an empty one."""
    if value is None:
        return ""
    return value if isinstance(value, str) else compact_json(value)


def compact_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
