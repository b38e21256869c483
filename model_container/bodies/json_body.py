"""JSON parser that names the position of an error."""

from __future__ import annotations

import json
from typing import Any, Callable, Union

import msgspec

from model_container.bodies.problems import Problem

MAX_DEPTH = 100

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_HUGE_DIGITS = 400
_CONSTANTS = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}

_decode = msgspec.json.Decoder().decode


def parse(body: bytes, lenient: bool = False) -> Any:
    """Parse a JSON body. Raises Problem.

    Numbers beyond the range of a double become ±inf, which JSON itself cannot express; later checks report them.

    lenient: also accept NaN and Infinity, which Python's and other encoders write. NaN becomes null, an infinity its
    word.
    """
    if not body.strip():
        raise Problem(400, "empty_body", "The body is empty.", 'Send JSON such as {"features": [[…]]}.')
    try:
        value = _decode(body)
    except msgspec.ValidationError:
        value = _parse_huge(body, _CONSTANTS.__getitem__ if lenient else _refuse_constant)
    except UnicodeDecodeError as error:
        raise Problem(
            400, "not_json", f"The body is not UTF-8 (byte {error.start}).", "Send JSON encoded as UTF-8."
        ) from None
    except msgspec.DecodeError as error:
        reason = str(error)
        if lenient and (b"NaN" in body or b"Infinity" in body):
            return _checked_depth(body, _parse_huge(body, _CONSTANTS.__getitem__))
        raise _not_json(f"it ends too early, after byte {len(body)}" if "truncated" in reason else reason) from None
    except RecursionError:
        raise _too_deep() from None
    return _checked_depth(body, value)


def _checked_depth(body: bytes, value: Any) -> Any:
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(body, value)
    return value


def _parse_huge(body: bytes, constant: Callable[[str], Any]) -> Any:
    try:
        return json.loads(body, parse_int=_parse_int, parse_constant=constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise _not_json(str(error)) from None


def _parse_int(digits: str) -> Union[int, float]:
    if len(digits) > _HUGE_DIGITS:  # beyond the range of a double; converting it would take quadratic time
        return float("-inf") if digits.startswith("-") else float("inf")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _not_json(reason: str) -> Problem:
    return Problem(
        400,
        "not_json",
        f"The body is not JSON: {reason}.",
        "Check the quotes and brackets there; write NaN and Infinity as null.",
    )


def _too_deep() -> Problem:
    return Problem(
        400,
        "too_deep",
        f"The body nests lists and objects deeper than {MAX_DEPTH} levels.",
        "Send rows as a list of lists.",
        limit=MAX_DEPTH,
    )


def _check_depth(body: bytes, value: Any) -> None:
    """Check the nesting depth.

    Counting brackets is nearly always enough. Brackets inside strings may inflate the count, so a high count is
    verified on the value itself.
    """
    depth = deepest = 0
    for byte in body.translate(None, _NOT_BRACKETS):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    if deepest > MAX_DEPTH:
        level = [value]
        for _ in range(MAX_DEPTH + 1):
            level = [
                child
                for item in level
                if isinstance(item, (list, dict))
                for child in (item.values() if isinstance(item, dict) else item)
            ]
        if level:
            raise _too_deep()
