"""Values of each input in a sample request, in any dialect of model_container/bodies/json_dialects.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

VALUE_KEYS = ("input", "inputs", "features", "instances")
KEYS = (*VALUE_KEYS, "dataframe_split", "dataframe_records")


def row_of(sample: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the first row, by column name. Empty if the sample does not match the columns."""
    content = content_of(sample, names)
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict):
            content = first
        elif isinstance(first, list):
            content = dict(zip(names, first, strict=False)) if len(first) == len(names) else {}
        elif len(content) == len(names):
            content = dict(zip(names, content, strict=False))
        else:
            content = {names[0]: first} if content and len(names) == 1 else {}
    if not isinstance(content, dict) or set(content) != set(names):
        return {}
    return {name: _first(content[name]) for name in names}


def held_by(sample: Any) -> tuple[str, Any]:
    """Return the key that holds the rows if it is the only one, and the rows; otherwise "" and the sample itself."""
    key = next(iter(sample), "") if isinstance(sample, dict) and len(sample) == 1 else ""
    return (key, sample[key]) if key in VALUE_KEYS else ("", sample)


def record_of(sample: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the first of the records, with its values unchanged. Empty if it has other names."""
    _, content = held_by(sample)
    first = content[0] if isinstance(content, list) and content else content
    return first if isinstance(first, dict) and set(first) == set(names) else {}


def tensors_of(sample: Any, names: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
    """Return the whole value of each input, by name. Empty if the sample does not match the inputs."""
    content = content_of(sample, names)
    if isinstance(content, dict) and set(required) <= content.keys() <= set(names):
        return content
    return {names[0]: content} if len(names) == 1 and isinstance(content, list) else {}


def content_of(sample: Any, names: Sequence[str]) -> Any:
    """Return the part of the sample that holds the values: values by name, or rows."""
    if not isinstance(sample, dict) or set(sample) == set(names):
        return sample
    present = [key for key in KEYS if key in sample]
    if len(present) != 1:
        return sample
    content = sample[present[0]]
    if present[0] == "dataframe_split" and isinstance(content, dict):
        return _of_frame(content)
    if present[0] == "inputs" and isinstance(content, list) and _are_tensors(content):
        return {str(tensor["name"]): tensor.get("data") for tensor in content}
    return content


def _are_tensors(content: list[Any]) -> bool:
    return bool(content) and all(
        isinstance(item, dict) and {"name", "shape", "datatype"} <= item.keys() for item in content
    )


def _of_frame(frame: dict[str, Any]) -> Any:
    columns, rows = frame.get("columns"), frame.get("data")
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], list):
        return None
    if isinstance(columns, list) and all(isinstance(name, str) for name in columns):
        return dict(zip(columns, rows[0], strict=False))
    return rows


def _first(value: Any) -> Any:
    """Return the first value of a column, including one written as a tensor of shape (rows, 1)."""
    while isinstance(value, list):
        value = value[0] if value else None
    return value
