"""Request body with another number of rows, in the dialect of the original."""

from __future__ import annotations

from collections.abc import Collection
from itertools import cycle, islice
from typing import Any

from app.errors import BadInput
from prism.responses import Signature

ROW_KEYS = ("input", "inputs", "features", "instances", "dataframe_records")
V2_KEYS = {"name", "shape", "datatype", "data"}


def repeated(body: Any, rows: int, signature: Signature | None) -> Any:
    """Repeat the rows of `body` until there are `rows`. Raises BadInput if it has no rows to repeat.

    signature: of the model; it distinguishes one row of numbers from several rows of one number.
    """
    inputs = signature.inputs if signature else []
    names = {tensor.name for tensor in inputs}
    width = inputs[0].shape[1] if len(inputs) == 1 and len(inputs[0].shape) == 2 else len(inputs)
    if isinstance(body, list):
        return _values(body, rows, width)
    if not isinstance(body, dict) or not body:
        raise BadInput("The body is neither a list nor an object, so it has no rows to repeat.")
    key, value = next(iter(body.items()))
    if _is_v2(body):
        return {**body, "inputs": [_tensor(tensor, rows) for tensor in body["inputs"]]}
    if len(body) > 1 or body.keys() == names or key not in (*ROW_KEYS, "dataframe_split"):
        return _columns(body, rows)
    if key == "dataframe_split":
        return {key: _frame(value, rows)}
    return {key: _values(value, rows, width)}


def _values(value: Any, rows: int, width: int) -> Any:
    if isinstance(value, dict):
        return _columns(value, rows)
    one_row = isinstance(value, list) and width > 1 and len(value) == width and not _holds_rows(value)
    if one_row or not isinstance(value, list):
        return [value] * rows
    return _cycled(value, rows)


def _columns(value: dict[str, Any], rows: int) -> dict[str, Any]:
    return {name: _cycled(item, rows) if isinstance(item, list) else [item] * rows for name, item in value.items()}


def _frame(frame: Any, rows: int) -> dict[str, Any]:
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list):
        raise BadInput('"dataframe_split" has no list "data", so there are no rows to repeat.')
    return {name: _cycled(item, rows) if name == "data" else item for name, item in frame.items() if name != "index"}


def _tensor(tensor: dict[str, Any], rows: int) -> dict[str, Any]:
    shape, data = tensor["shape"], tensor["data"]
    if not shape or not shape[0] or not data:
        raise BadInput(f"Input {tensor['name']!r} has no rows to repeat.")
    values_a_row = 1 if _holds_rows(data) else len(data) // shape[0]
    return {**tensor, "shape": [rows, *shape[1:]], "data": _cycled(data, rows * values_a_row)}


def _cycled(items: Collection[Any], count: int) -> list[Any]:
    if not items:
        raise BadInput("The body has no rows to repeat.")
    return list(islice(cycle(items), count))


def _holds_rows(items: list[Any]) -> bool:
    return isinstance(items[0], list | dict) if items else False


def _is_v2(body: dict[str, Any]) -> bool:
    inputs = body.get("inputs")
    return (
        isinstance(inputs, list) and bool(inputs) and all(isinstance(t, dict) and t.keys() >= V2_KEYS for t in inputs)
    )
