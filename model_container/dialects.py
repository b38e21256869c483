"""A request body, in any native dialect, to its content: rows by position or values by name.

    {"feature1": 0.1, …}                       one row; lists of equal length: columns of several rows
    {"input": …} {"inputs": …} {"features": …} {"instances": …}      rows, one row, records or names
    {"dataframe_split": {columns, data}}, {"dataframe_records": [{…}]}      MLflow
    {"inputs": [{name, shape, datatype, data}], "id"?, "outputs"?}          Open Inference Protocol V2
    [[…], …]                                   rows

Nothing here knows the model but the names of its inputs: an object whose keys are exactly those names is a row,
also where one of them is called "input". Whether the content fits the model is decided by the adapter.
"""

from __future__ import annotations

import json
import math
from types import MappingProxyType
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import msgspec

from model_container.frames import FORM_NATIVE, FORM_V2
from model_container.problems import Problem, shown
from model_container.values import DTYPES

MAX_DEPTH = 100

VALUE_KEYS = ("input", "inputs", "features", "instances")
KEYS = (*VALUE_KEYS, "dataframe_split", "dataframe_records")
_V2_KEYS = frozenset(("inputs", "id", "outputs", "parameters"))
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_HUGE_DIGITS = 400
_MAX_RANK = 32  # numpy 1's own limit
_MAX_EMPTY = 1 << 24
"""Other sizes of a tensor without values, multiplied: what a model makes of them must fit in memory."""

_CONSTANTS = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}

_decode = msgspec.json.Decoder().decode


class Rows(NamedTuple):
    """Values by position; one row or several, which the model's width tells. A list, or an array that came as bytes."""

    values: Any


class Named(NamedTuple):
    """Values by input name, each one value (a single row), or a list or an array with one item a row.

    shapes: of those that came as tensors. A value of no dimension is not in a list, one of no values is [].
    """

    values: Dict[str, Any]
    shapes: Mapping[str, Tuple[int, ...]] = MappingProxyType({})

    @property
    def has_no_rows(self) -> bool:
        return any(0 in shape for shape in self.shapes.values())


Content = Union[Rows, Named]


class Decoded(NamedTuple):
    """form: of the answer. id: to be repeated in it. outputs: the names asked for, None for all.

    binary: by output, whether it goes as bytes; all_binary: whether those go so of which it is not said.
    """

    content: Content
    form: int = FORM_NATIVE
    id: Optional[str] = None
    outputs: Optional[List[str]] = None
    binary: Mapping[str, bool] = MappingProxyType({})
    all_binary: bool = False


def decode(body: bytes, names: FrozenSet[str] = frozenset()) -> Decoded:
    """names: of the model's inputs. Raises Problem: 400 for what is no JSON, 422 for what is no dialect."""
    value = parse(body)
    if isinstance(value, list):
        return Decoded(_content(value, "the body"))
    if not isinstance(value, dict):
        raise Problem(
            422,
            "unknown_dialect",
            f"The body is {shown(value)}, neither an object nor a list.",
            'Send {"features": [[…]]} or an object of features such as {"feature1": 0.1}.',
        )
    if is_v2(value) or (not names and value.get("inputs") == []):  # of a model without inputs
        return _decode_v2(value)
    if value.keys() == names:
        return Decoded(Named(value))
    present = [key for key in KEYS if key in value]
    if not present or not names.isdisjoint(present):
        return Decoded(Named(value))
    return Decoded(_decode_keyed(value, present))


def decode_keyed(body: bytes, keys: Sequence[str], ignored: Sequence[str] = ()) -> Decoded:
    """Of a protocol whose requests hold their rows under one of these keys. Raises Problem."""
    value = parse(body, lenient=True)
    present = [key for key in keys if isinstance(value, dict) and key in value]
    if not present:
        listed = ", ".join(map(repr, keys))
        raise Problem(
            422, "unknown_dialect", f"The body is no object with one of {listed}.", f'Send {{"{keys[0]}": …}}.'
        )
    return Decoded(_decode_keyed({key: value[key] for key in value if key not in ignored}, present))


def parse(body: bytes, lenient: bool = False) -> Any:
    """The JSON value. Numbers beyond a double become ±inf, which JSON has no word for, to be named by the checks.

    lenient: also read the NaN and Infinity that Python's and other encoders write; null and a word stand for them.
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
    if len(digits) > _HUGE_DIGITS:  # beyond any double; converting it would take quadratic time
        return float("-inf") if digits.startswith("-") else float("inf")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _not_json(reason: str) -> Problem:
    return Problem(
        400,
        "not_json",
        f"The body is not JSON: {reason}.",
        "Check the quotes and brackets there; NaN and Infinity are written null.",
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
    """A scan of the brackets alone answers nearly always; brackets inside strings may exaggerate, so then look."""
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


def _decode_keyed(body: Dict[str, Any], present: List[str]) -> Content:
    if len(present) > 1:
        raise Problem(
            422,
            "unknown_dialect",
            f"The body has {' and '.join(present)}; only one of them can hold the rows.",
            f"Keep one of {', '.join(present)}.",
        )
    key = present[0]
    if len(body) > 1:
        extra = sorted(set(body) - {key})
        raise Problem(
            422,
            "unknown_keys",
            f"Beside {key!r} the body has keys that mean nothing here: {', '.join(map(shown, extra))}.",
            f"Remove them, or put the features inside {key!r}.",
            unknown=extra,
        )
    value = body[key]
    if key == "dataframe_split":
        return split_frame(value)
    if key == "dataframe_records" and not isinstance(value, list):
        raise _not_content(key, value)
    return _content(value, repr(key))


def _content(value: Any, place: str) -> Content:
    if isinstance(value, dict):
        return Named(value)
    if value is None:
        raise _not_content(place, value)
    if not isinstance(value, list):
        return Rows([value])
    if not value:
        raise no_rows()
    if dict in set(map(type, value)):
        return _records(value)
    return Rows(value)


def no_rows() -> Problem:
    return Problem(422, "no_rows", "The request has no rows.", "Send at least one row.")


def _not_content(place: str, value: Any) -> Problem:
    return Problem(
        422,
        "unknown_dialect",
        f"{place} holds {shown(value)}, which is neither rows nor named features.",
        "Give it a list of rows, or an object of features.",
    )


def _records(rows: List[Any]) -> Named:
    first = rows[0]
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(first, dict):
            raise Problem(
                422,
                "ragged_rows",
                f"Row {index if not isinstance(row, dict) else 0} is not an object, though other rows are.",
                "Send all rows in one shape.",
                row=index,
            )
        if row.keys() != first.keys():
            different = sorted(row.keys() ^ first.keys())
            raise Problem(
                422,
                "ragged_rows",
                f"Row {index} does not have the names of row 0; they differ in {', '.join(map(shown, different))}.",
                "Give every row the same names; a missing value is written null.",
                row=index,
                different=different,
            )
    return Named({name: [row[name] for row in rows] for name in first})


def split_frame(frame: Any) -> Content:
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list):
        raise Problem(
            422,
            "unknown_dialect",
            '"dataframe_split" needs "columns", a list of names, and "data", a list of rows.',
            "pandas writes it with df.to_json(orient='split').",
        )
    extra = sorted(set(frame) - {"columns", "data", "index"})
    if extra:
        raise Problem(
            422, "unknown_keys", f'"dataframe_split" has unknown keys: {", ".join(map(shown, extra))}.', unknown=extra
        )
    columns, rows = frame.get("columns"), frame["data"]
    if not rows:
        raise no_rows()
    if columns is None:
        return _content(rows, '"data"')
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        if isinstance(columns, list) and all(type(name) is int for name in columns):  # pandas' names for a plain array
            return _content(rows, '"data"')
        raise Problem(422, "unknown_dialect", f'"columns" holds {shown(columns)}, not a list of names.')
    if len(set(columns)) != len(columns):
        raise Problem(422, "wrong_columns", "dataframe_split names a column twice.", columns=columns)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            got = f"{len(row)} values" if isinstance(row, list) else shown(row)
            raise Problem(422, "ragged_rows", f"Row {index} has {got} for {len(columns)} columns.", row=index)
    return Named({name: [row[index] for row in rows] for index, name in enumerate(columns)})


def is_v2(body: Dict[str, Any]) -> bool:
    inputs = body.get("inputs")
    return (
        isinstance(inputs, list)
        and bool(inputs)
        and all(isinstance(one, dict) and {"name", "shape", "datatype"} <= one.keys() for one in inputs)
    )


def _decode_v2(body: Dict[str, Any]) -> Decoded:
    extra = sorted(set(body) - _V2_KEYS)
    if extra:
        raise Problem(422, "unknown_keys", f"Unknown keys: {', '.join(map(shown, extra))}.", unknown=extra)
    outputs = body.get("outputs")
    if outputs is not None:
        if not isinstance(outputs, list) or not all(
            isinstance(one, dict) and isinstance(one.get("name"), str) for one in outputs
        ):
            raise Problem(422, "unknown_dialect", '"outputs" must be a list of objects with a "name".')
        outputs = [one["name"] for one in outputs]
    values: Dict[str, Any] = {}
    shapes: Dict[str, Tuple[int, ...]] = {}
    for tensor in body["inputs"]:
        name = tensor["name"]
        if not isinstance(name, str) or name in values:
            raise Problem(422, "wrong_columns", f"Two inputs, or none, are named {shown(name)}.")
        values[name], shapes[name] = _nested(tensor)
    identity = body.get("id")
    return Decoded(Named(values, shapes), FORM_V2, None if identity is None else str(identity), outputs or None)


def _nested(tensor: Dict[str, Any]) -> Tuple[Any, Tuple[int, ...]]:
    """The tensor's data, which V2 allows flat or nested, as nested lists of its shape, and the shape."""
    name, shape, data = tensor["name"], tensor["shape"], tensor.get("data")
    if tensor["datatype"] not in DTYPES:
        raise Problem(
            422,
            "wrong_datatype",
            f"Input {name!r} has the unknown datatype {shown(tensor['datatype'])}.",
            f"Use one of {', '.join(DTYPES)}.",
        )
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or len(shape) > _MAX_RANK:
        raise Problem(
            422, "wrong_shape", f"Input {name!r} has the shape {shown(shape)}, not a list of up to {_MAX_RANK} sizes."
        )
    if not isinstance(data, list):
        raise Problem(422, "wrong_shape", f"Input {name!r} has no list of data.", 'Put the values in "data".')
    count = math.prod(shape)
    flat = data
    while flat and all(isinstance(item, list) for item in flat):
        flat = [leaf for item in flat for leaf in item]
    if len(flat) != count:
        raise Problem(
            422, "wrong_shape", f"Input {name!r} of shape {shape} needs {count} values, its data has {len(flat)}."
        )
    if not count:
        if math.prod(size for size in shape if size) > _MAX_EMPTY:
            raise Problem(
                422, "wrong_shape", f"Input {name!r} of shape {shown(shape)} has no values, but a huge shape."
            )
        return [], tuple(shape)
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return (flat if shape else flat[0]), tuple(shape)
