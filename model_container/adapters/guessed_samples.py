"""Requests that a class without a `sample` probably answers, from what its code says about its argument.

def predict(self, rows: List[Row])                        {"features": [{"city": "a short text", "km": 1.0}]}
def predict(self, request: Request)                       {"prompt": "a short text", "temperature": 1.0}
def predict(self, rows): … row["city"] … row["km"]        {"features": [{"city": 1.0, "km": 1.0}]}, and with texts
def predict(self, request): … request["prompt"]           {"prompt": 1.0}, and with a text
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

TEXT, NUMBER = "a short text", 1.0
GUESSES: List[Any] = [{"features": [[NUMBER] * width]} for width in (1, 2, 4)] + [{"input": [TEXT]}]
"""Requests for a class that says nothing of its argument."""

_SCALARS: Dict[Any, Any] = {str: TEXT, float: NUMBER, int: 1, bool: True}
_MAX_DEPTH = 8
_UNKNOWN = object()


def guessed_samples(step: Callable[..., Any]) -> List[Any]:
    """Return request bodies for the step that gets a request first, best first."""
    value = _value_of(_argument_hint(step), _MAX_DEPTH)
    if value is _UNKNOWN:
        return _samples_by_name(step) + GUESSES
    if isinstance(value, list) and isinstance(value[0], list) and not isinstance(value[0][0], (list, dict)):
        return [{"features": [value[0] * width]} for width in (1, 2, 4)]
    if isinstance(value, list):
        return [{"input" if isinstance(value[0], str) else "features": value}]
    return [value] if isinstance(value, dict) else [{"input": [value]}]


def _argument_hint(step: Callable[..., Any]) -> Any:
    """Return the type hint of the first argument, None if there is none that can be evaluated."""
    try:
        hints = typing.get_type_hints(step)
        return hints.get(next(iter(inspect.signature(step).parameters), ""))
    except Exception:  # a hint is an expression of the owner's, which may raise anything
        return None


def _value_of(hint: Any, depth: int) -> Any:
    """Return a JSON value of a type, or _UNKNOWN."""
    if not depth:
        return _UNKNOWN
    if isinstance(hint, type) and hint in _SCALARS:
        return _SCALARS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is not None and str(origin) == "typing.Literal":
        return arguments[0]
    if origin is Union or type(hint).__name__ == "UnionType":
        return next((value for item in arguments if (value := _value_of(item, depth - 1)) is not _UNKNOWN), _UNKNOWN)
    if hasattr(hint, "__metadata__"):  # Annotated
        return _value_of(hint.__origin__, depth - 1)
    if isinstance(hint, type) and issubclass(hint, dict) and getattr(hint, "__annotations__", None):  # a TypedDict
        return _record(hint, depth)
    is_list = isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping)
    if is_list and arguments:
        item = _value_of(arguments[0], depth - 1)
        return item if item is _UNKNOWN else [item]
    return _UNKNOWN


def _record(hint: Any, depth: int) -> Any:
    values = {name: _value_of(item, depth - 1) for name, item in typing.get_type_hints(hint).items()}
    return _UNKNOWN if _UNKNOWN in values.values() else values


def _samples_by_name(step: Callable[..., Any]) -> List[Any]:
    """Return requests with the names by which the code reads items, such as "city" in row["city"].

    If it reads them of its argument, that is an object; otherwise they are read of rows.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(step)))
        argument = next(iter(inspect.signature(step).parameters), "")
    except (OSError, TypeError, ValueError, SyntaxError):
        return []
    items = sorted(item for item in map(_item_read, ast.walk(tree)) if item)
    names = [name for _, owner, name in items if owner == argument]
    if names:
        return [dict.fromkeys(names, value) for value in (NUMBER, TEXT)]
    names = [name for _, _, name in items]
    return [{"features": [dict.fromkeys(names, value)]} for value in (NUMBER, TEXT)] if names else []


def _item_read(node: ast.AST) -> Optional[Tuple[Tuple[int, int], str, str]]:
    """Return the place, variable and name of variable["name"] or variable.get("name"), None for any other node."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        owner, key = node.func.value, node.args[0]
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        owner, key = node.value, getattr(node.slice, "value", node.slice)  # Python 3.8 wraps the constant
    else:
        return None
    name = getattr(key, "value", key)
    if isinstance(owner, ast.Name) and isinstance(name, str):
        return (node.lineno, node.col_offset), owner.id, name
    return None
