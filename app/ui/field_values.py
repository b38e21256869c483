"""Conversion between the text of a form field and a JSON value of a request."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from typing import Any

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
WITH_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+", re.ASCII)
LONGEST_NUMBER = 400
LONGEST_SHOWN = 40
MAX_DEPTH = 100
"""Nesting limit, the same as in the replica: model_container/bodies/json_dialects.py."""


class Unreadable(ValueError):
    """Error in a field's text, worded as a sentence for the person who wrote it."""


def shown(text: str) -> str:
    """Quote the text for an error message, shortened to LONGEST_SHOWN characters."""
    text = " ".join(text.split())
    return f"`{text}`" if len(text) <= LONGEST_SHOWN else f"`{text[: LONGEST_SHOWN - 1]}…`"


def number(text: str) -> int | float:
    """Parse a number. Raises Unreadable for text that is no number or is beyond the range of a double."""
    text = text.strip()
    if not NUMBER.fullmatch(text) or len(text) > LONGEST_NUMBER:
        hint = " Use a decimal point." if WITH_COMMA.fullmatch(text) else ""
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


def date(text: str) -> str:
    """Return a date or a time in ISO 8601 unchanged. Raises Unreadable for any other text."""
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        raise Unreadable(f"{shown(text)} is not a date such as 2024-12-31.") from None
    return text.strip()


def any_value(text: str) -> Any:
    """Parse a number, true, false or quoted text; return any other text unchanged."""
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
    """Parse JSON. Raises Unreadable with the position of the first error."""
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
            for node in level
            if isinstance(node, (list, dict))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return any(isinstance(node, (list, dict)) for node in level)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number; write a missing value as null")


def text_of(value: Any) -> str:
    """Return a value as the text of its field; null becomes an empty field."""
    if value is None:
        return ""
    return value if isinstance(value, str) else compact_json(value)


def compact_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
