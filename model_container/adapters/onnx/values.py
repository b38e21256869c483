"""Conversion of request values to the inputs of an ONNX graph.

    tensor      nested lists; its first dimension may be left out for a single row
    sequence    a list of tensors
    map         an object

If a request can only contain strings, as in a V2 tensor of BYTES, each item of a sequence and each map is JSON.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import msgspec
import numpy as np

from model_container.adapters.onnx.ports import MAP, SEQUENCE, Port
from model_container.bodies.content import no_rows
from model_container.bodies.problems import Problem, shown
from model_container.bodies.table import LISTED
from model_container.bodies.values import NEVER, WORDS, Place, array_of

Shape = Optional[Tuple[int, ...]]


def value_of(port: Port, value: Any, shape: Shape = None) -> Any:
    """Convert a value for an input. shape: as the request gives it; None if only its lists show it. Raises Problem.

    An array has its rows as first dimension. A scalar becomes one row. If the graph declares a scalar (or no shape at
    all) and the request gives another shape, the value becomes the only row.
    """
    if port.kind in (SEQUENCE, MAP):
        value = value.tolist() if isinstance(value, np.ndarray) else value
        return _sequence(port, value, shape is not None) if port.kind == SEQUENCE else _map(port, value)
    is_single = not isinstance(value, LISTED)
    array = array_of([value] if is_single else value, port.datatype, _place(port.name), NEVER, True)
    check_texts(port.name, array)
    if shape is not None and not array.size:
        array = array.reshape(shape)
    if not port.shape:
        return array if array.ndim == 1 and (shape is None or array.size == 1) else array[np.newaxis]
    array = _completed(port, array, is_single)
    _check_shape(port, array)
    if not len(array) and shape is None and port.rows is None:
        raise no_rows()
    return array


def check_texts(name: str, array: Any) -> None:
    """Refuse bytes that are not UTF-8: onnxruntime's strings are UTF-8, so they would become Python's repr of the
    bytes.
    """
    if array.dtype.kind == "O" and any(isinstance(item, bytes) for item in array.ravel()):
        raise Problem(422, "not_utf8", f"Input {name!r} holds bytes that are not UTF-8; the model takes strings.")


def _completed(port: Port, array: Any, is_single: bool) -> Any:
    """Add the dimensions that a request may leave out."""
    rank = len(port.shape)
    if not array.size and 0 in port.shape and None not in port.shape:  # an empty list hides the inner dimensions
        return array.reshape(port.shape) if array.ndim <= rank else array
    if is_single and rank != 1:
        return array.reshape((1,) * rank) if all(size in (None, 1) for size in port.shape) else array
    if array.ndim == 1 and rank == 2 and port.shape[1] == 1:
        return array.reshape(-1, 1)
    return array[np.newaxis] if array.ndim == rank - 1 else array


def _check_shape(port: Port, array: Any) -> None:
    """Check the shape.

    If the graph takes a single row, any number of rows is accepted; they are then run one by one.
    """
    wanted, got = port.shape, array.shape
    fits = len(got) == len(wanted) and all(want in (None, have) for want, have in zip(wanted[1:], got[1:]))
    if not fits or wanted[0] not in (None, 1, got[0]):
        raise Problem(
            422,
            "wrong_shape",
            f"Input {port.name!r} has the shape {list(got)}; the model takes {port.sizes()}.",
            "-1 stands for any size; nest the lists accordingly.",
            expected=port.sizes(),
            got=list(got),
        )


def _sequence(port: Port, value: Any, is_text: bool) -> List[Any]:
    if not isinstance(value, list):
        raise _wrong_kind(port, value, "a list of tensors")
    return [_item(port, index, item, is_text) for index, item in enumerate(value)]


def _item(port: Port, index: int, item: Any, is_text: bool) -> Any:
    if isinstance(item, str) and (is_text or (port.datatype != "BYTES" and item not in WORDS)):
        item = _parsed(port, item, f"item {index}, a tensor")
    inner = _place(f"{port.name}[{index}]")
    array = array_of(item if isinstance(item, list) else [item], port.datatype, inner, None, True)
    return array if isinstance(item, list) else array.reshape(())


def _map(port: Port, value: Any) -> Dict[Any, Any]:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        value = _parsed(port, value, "an object")
    if not isinstance(value, dict):
        raise _wrong_kind(port, value, "an object")
    keys = list(value)
    numbers = array_of(list(value.values()), port.datatype, lambda index: _at_key(port, keys[index[0]]), None, True)
    if numbers.ndim != 1:
        raise _wrong_kind(port, value, "an object of single values")
    return dict(zip([_key(port, key) for key in keys], numbers.tolist()))


def _key(port: Port, key: str) -> Any:
    if port.keys == "BYTES":
        return key
    try:
        return int(key)
    except ValueError:
        raise _wrong_kind(port, key, "whole numbers as keys") from None


def _parsed(port: Port, text: str, wanted: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise _wrong_kind(port, text, f"the JSON of {wanted},") from None


def _wrong_kind(port: Port, value: Any, wanted: str) -> Problem:
    return Problem(422, "wrong_shape", f"Input {port.name!r} holds {shown(value)} where {wanted} is expected.")


def _place(name: str) -> Place:
    return lambda index: (
        f"Input {name!r}, row {index[0]}" + (f", position {list(index[1:])}" if index[1:] else ""),
        {"input": name, "row": index[0], "position": list(index[1:])},
    )


def _at_key(port: Port, key: str) -> Tuple[str, Dict[str, Any]]:
    return f"Input {port.name!r}, key {key!r}", {"input": port.name, "key": key}
