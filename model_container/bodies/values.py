"""Conversion of JSON values to arrays of one datatype, independent of the rest of the batch.

The declared datatype decides the dtype, never the neighbouring values, so a request becomes the same array alone and in
a batch. numpy reads numbers at full speed. Only values that numpy does not read as plain numbers are examined one by
one, to convert nulls and strings or to name the value at fault.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from model_container.bodies.problems import Problem, shown

DTYPES: Dict[str, Any] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(np.float32),  # numpy has no bfloat16; the ONNX adapter rounds to it
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
ANY = "ANY"
"""Datatype of a column whose contents the artifact does not declare: numbers and strings are passed on unchanged."""

DATETIME = "DATETIME"
"""Datatype of a column of dates: text in ISO 8601 in a request, datetime64[ns] for the model, without a time zone."""

A_DATE = "2024-01-01"
"""Sample of a date."""

NEVER: Any = object()
"""Marker for columns of text in which null is refused, because libraries do not accept None as a string."""

_DATATYPES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Numbers that JSON cannot express, spelled as in protobuf's JSON form."""

_BF16_END = np.float32((2 - 2**-8) * 2.0**127)  # smallest number that bfloat16 rounds to infinity
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # whole years that nanoseconds in 64 bits can hold
_MAX_RANK = 32  # limit of numpy 1
_NULLABLE = frozenset(("FP16", "BF16", "FP32", "FP64"))
_NUMBERS = frozenset((int, float, bool, type(None)))

Place = Callable[[Tuple[int, ...]], Tuple[str, Dict[str, Any]]]
"""Function from a value's index in its array to a description of the place, and the same as members of the problem."""


def datatype_of(dtype: Any) -> str:
    """Return the Open Inference Protocol's name of a numpy dtype; BYTES for anything that is no number."""
    return _DATATYPES.get(dtype, "BYTES")


def array_of(values: Any, datatype: str, place: Place, missing: Any = math.nan, infinite: bool = False) -> Any:
    """Convert values to an array of the datatype.

    values: nested lists of equal lengths, or an array. missing: what null becomes in a column of strings or of ANY;
    NEVER if it is refused. infinite: a floating-point number may also be one of WORDS.

    Raises Problem naming the first value that does not fit.
    """
    if datatype == DATETIME:
        return _dates(values, place)
    if isinstance(values, np.ndarray):
        return _converted(values, datatype, place, missing, infinite)
    if datatype == ANY:
        return _array_of_any(values, place, missing)
    if datatype == "BYTES":
        leaves, shape = _flatten(values, place)
        for index, leaf in enumerate(leaves):
            if leaf is None and missing is NEVER:
                raise _mistyped(leaf, "a string", "missing_value", index, shape, place)
            if leaf is not None and type(leaf) is not str:
                raise _mistyped(leaf, "a string", "not_a_string", index, shape, place)
        return _object_array([missing if leaf is None else leaf for leaf in leaves], shape)
    try:
        raw = np.array(values)
    except (ValueError, OverflowError, TypeError):
        raw = None
    if raw is None or raw.dtype.kind not in "fiub":
        raw = _numbers(values, place, datatype, infinite and datatype in _NULLABLE)
    return _cast(raw, values, datatype, place)


def _dates(values: Any, place: Place) -> Any:
    leaves, shape = _flatten(values, place)
    dates = [None if leaf is None else _date(leaf, index, shape, place) for index, leaf in enumerate(leaves)]
    return np.array(dates, dtype="datetime64[ns]").reshape(shape)


def _date(leaf: Any, index: int, shape: Sequence[int], place: Place) -> datetime:
    """Read a date or a time. One with a time zone is converted to UTC."""
    try:
        when = datetime.fromisoformat(leaf[:-1] + "+00:00" if leaf.endswith("Z") else leaf)
        when = when.astimezone(timezone.utc).replace(tzinfo=None) if when.tzinfo else when
    except (AttributeError, TypeError, ValueError):
        wanted = "a date such as 2024-12-31 or 2024-12-31T18:30:00"
        raise _mistyped(leaf, wanted, "not_a_date", index, shape, place) from None
    except OverflowError:
        raise _too_large(leaf, DATETIME, index, shape, place) from None
    if not _FIRST_YEAR <= when.year <= _LAST_YEAR:
        raise _too_large(leaf, DATETIME, index, shape, place)
    return when


def _converted(array: Any, datatype: str, place: Place, missing: Any, infinite: bool) -> Any:
    """Convert an array with the same result as for lists of the same values."""
    is_text = array.dtype.kind == "O"
    if is_text != (datatype == "BYTES") and datatype != ANY:
        return array_of(array.tolist(), datatype, place, missing, infinite)
    if datatype != ANY or array.dtype.kind in "bO":
        return array if is_text or datatype == ANY else _cast(array, array, datatype, place)
    is_whole = array.dtype.kind in "iu" and (array.dtype != np.uint64 or int(array.max(initial=0)) < 1 << 63)
    return array.astype(np.int64 if is_whole else np.float64)


def _numbers(values: List[Any], place: Place, datatype: str, infinite: bool) -> Any:
    leaves, shape = _flatten(values, place)
    numbers = [WORDS.get(leaf, leaf) if type(leaf) is str else leaf for leaf in leaves] if infinite else leaves
    if set(map(type, numbers)) <= _NUMBERS and (datatype in _NULLABLE or None not in numbers):
        try:
            return np.array(numbers, dtype=np.float64).reshape(shape)
        except OverflowError:
            pass  # the loop below reports the number that is too large
    for index, leaf in enumerate(leaves):
        if leaf is None and datatype not in _NULLABLE:
            raise _mistyped(leaf, f"a value ({datatype} has no missing values)", "missing_value", index, shape, place)
        if infinite and leaf in WORDS:
            continue
        if type(leaf) not in _NUMBERS:
            raise _mistyped(leaf, "a number", "not_a_number", index, shape, place)
        if leaf is not None and not _is_double(leaf):
            raise _too_large(leaf, datatype, index, shape, place)
    raise AssertionError("numpy refused numbers that all fit a double")


def _is_double(number: Any) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def _cast(raw: Any, values: List[Any], datatype: str, place: Place) -> Any:
    dtype = DTYPES[datatype]
    kind = raw.dtype.kind
    if dtype.kind == "f":
        if dtype.itemsize == 8:
            array = raw.astype(dtype, copy=False)
        else:
            with np.errstate(over="ignore"):
                array = raw.astype(dtype, copy=False)
        beyond = np.abs(array) >= _BF16_END if datatype == "BF16" else np.isinf(array)
        if isinstance(values, np.ndarray):
            beyond &= np.isfinite(values)  # infinities that were sent as such are intended
        if beyond.any():
            leaves, shape = _flatten(values, place)
            for index in np.flatnonzero(beyond).tolist():
                if type(leaves[index]) is not str:  # the word "Infinity" was sent on purpose
                    raise _too_large(leaves[index], datatype, index, shape, place)
        return array
    if dtype.kind == "b" and kind == "b":
        return raw
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if kind == "f":
        return _cast_leaves(values, dtype, datatype, (int(low), int(high)), place)
    if raw.size and (int(raw.min()) < low or int(raw.max()) > high):
        return _cast_leaves(values, dtype, datatype, (int(low), int(high)), place)
    return raw.astype(dtype, copy=False)


def _cast_leaves(values: List[Any], dtype: Any, datatype: str, bounds: Tuple[int, int], place: Place) -> Any:
    """Convert numbers to integers one by one: exact even for integers that a double would round."""
    leaves, shape = _flatten(values, place)
    for index, leaf in enumerate(leaves):
        if type(leaf) is float and not leaf.is_integer() and math.isfinite(leaf):
            raise _mistyped(leaf, f"a whole number ({datatype})", "not_an_integer", index, shape, place)
        if not _is_double(leaf) or not bounds[0] <= int(leaf) <= bounds[1]:
            raise _too_large(leaf, datatype, index, shape, place)
    return np.array([int(leaf) for leaf in leaves], dtype=dtype).reshape(shape)


def _array_of_any(values: List[Any], place: Place, missing: Any) -> Any:
    """Convert to integers, floats, booleans or strings, depending on this request's own values; mixed values are
    unchanged.

    Requests whose values have different types are not joined, so the result is the same alone and in a batch.
    """
    leaves, shape = _flatten(values, place)
    kinds = set(map(type, leaves))
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, (int, float)) and not _is_double(leaf):
            raise _too_large(leaf, "FP64", index, shape, place)
    if kinds == {bool}:
        return np.array(leaves, dtype=np.bool_).reshape(shape)
    if kinds == {int} and min(leaves) >= -(1 << 63) and max(leaves) < 1 << 63:
        return np.array(leaves, dtype=np.int64).reshape(shape)
    if kinds <= {int, float, type(None)} and kinds != {type(None)}:
        return np.array(leaves, dtype=np.float64).reshape(shape)
    return _object_array([missing if leaf is None else leaf for leaf in leaves], shape)


def _object_array(leaves: List[Any], shape: Tuple[int, ...]) -> Any:
    array = np.empty(len(leaves), dtype=object)
    array[:] = leaves
    return array.reshape(shape)


def _flatten(values: Any, place: Place) -> Tuple[List[Any], Tuple[int, ...]]:
    """Return the leaves in row-major order, and the shape. Raises Problem if lists of one level differ in length."""
    if isinstance(values, np.ndarray):
        return values.ravel().tolist(), values.shape
    leaves: List[Any] = values
    shape: Tuple[int, ...] = (len(values),)
    while any(isinstance(item, list) for item in leaves):
        width = next(len(item) for item in leaves if isinstance(item, list))
        for index, item in enumerate(leaves):
            if not isinstance(item, list) or len(item) != width:
                row = int(np.unravel_index(index, shape)[0])
                got = f"has {len(item)}" if isinstance(item, list) else f"is {shown(item)}"
                raise Problem(
                    422,
                    "ragged_rows",
                    f"Rows differ in length: row {row} {got}, others have {width} values.",
                    "Give every row the same number of values; write a missing one as null.",
                    row=row,
                )
        leaves = [leaf for item in leaves for leaf in item]
        shape = (*shape, width)
        if len(shape) > _MAX_RANK:
            raise Problem(422, "wrong_shape", f"The values have more than {_MAX_RANK} dimensions.")
    for index, leaf in enumerate(leaves):
        if type(leaf) is dict:
            raise _mistyped(leaf, "a value", "not_a_value", index, shape, place)
    return leaves, shape


def _mistyped(leaf: Any, wanted: str, code: str, index: int, shape: Sequence[int], place: Place) -> Problem:
    words, members = place(tuple(int(at) for at in np.unravel_index(index, shape)))
    hint = "Write a missing text as an empty string." if wanted == "a string" and leaf is None else ""
    if code == "not_a_number" and isinstance(leaf, str):
        hint = "Write the number without quotes." if _reads_as_number(leaf) else "Write a missing number as null."
        if _reads_as_number(leaf.replace(",", ".", 1)) and "," in leaf:
            hint = "Write decimals with a point."
    return Problem(422, code, f"{words} holds {shown(leaf)} where {wanted} is expected.", hint, **members)


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _too_large(leaf: Any, datatype: str, index: int, shape: Sequence[int], place: Place) -> Problem:
    words, members = place(tuple(int(at) for at in np.unravel_index(index, shape)))
    value = "a number beyond the range of a double" if isinstance(leaf, float) and math.isinf(leaf) else shown(leaf)
    return Problem(422, "number_out_of_range", f"{words} holds {value}, which {datatype} cannot hold.", **members)
