"""Decoding of the native JSON dialects to rows by position or values by name.

    {"feature1": 0.1, …}                       one row; lists of equal length: columns of several rows
    {"input": …} {"inputs": …} {"features": …} {"instances": …}      rows, one row, records or names
    {"dataframe_split": {columns, data}}, {"dataframe_records": [{…}]}      MLflow
    {"inputs": [{name, shape, datatype, data}], "id"?, "outputs"?}          Open Inference Protocol V2
    [[…], …]                                   rows

Of the model, only the names of its inputs are known here. An object whose keys are exactly those names is a row, even
if one of them is called "input". The adapter decides whether the content fits the model.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Sequence

from model_container.bodies.content import Content, Decoded, Named, Rows, no_rows
from model_container.bodies.json_body import parse
from model_container.bodies.problems import Problem, shown
from model_container.bodies.v2 import decode_request
from model_container.contract.frames import DIALECT_MLFLOW, DIALECT_V1, FORM_GENERATE

VALUE_KEYS = ("input", "inputs", "features", "instances")
KEYS = (*VALUE_KEYS, "dataframe_split", "dataframe_records")
KEYED = {
    DIALECT_V1: (("instances", "inputs"), ("parameters", "signature_name")),
    DIALECT_MLFLOW: (("dataframe_split", "dataframe_records", "instances", "inputs"), ("params",)),
}
"""For each dialect: the keys that may hold the rows, and the keys that may accompany them."""

TEXT_INPUT = "text_input"
_BESIDE = ("id", "parameters")


def decode(body: bytes, names: FrozenSet[str] = frozenset()) -> Decoded:
    """Decode a body. names: of the model's inputs.

    Raises Problem: 400 if the body is no JSON, 422 if it is in no dialect.
    """
    value = parse(body)
    if isinstance(value, list):
        return Decoded(content_of(value, "the body"))
    if not isinstance(value, dict):
        raise Problem(
            422,
            "unknown_dialect",
            f"The body is {shown(value)}, neither an object nor a list.",
            'Send {"features": [[…]]} or an object of features such as {"feature1": 0.1}.',
        )
    if is_v2(value) or (not names and value.get("inputs") == []):  # a model without inputs
        return decode_request(value)._replace(binary={}, all_binary=False)  # JSON requests get JSON answers here
    if value.keys() == names:
        return Decoded(Named(value))
    present = [key for key in KEYS if key in value]
    if not present or not names.isdisjoint(present):
        return Decoded(Named(value))
    return Decoded(_decode_keyed(value, present))


def decode_keyed(body: bytes, keys: Sequence[str], ignored: Sequence[str] = ()) -> Decoded:
    """Decode a body of a protocol whose requests hold their rows under one of these keys. Raises Problem."""
    value = parse(body, lenient=True)
    present = [key for key in keys if isinstance(value, dict) and key in value]
    if not present:
        listed = ", ".join(map(repr, keys))
        raise Problem(
            422, "unknown_dialect", f"The body is not an object with one of {listed}.", f'Send {{"{keys[0]}": …}}.'
        )
    return Decoded(_decode_keyed({key: value[key] for key in value if key not in ignored}, present))


def decode_generate(body: bytes, names: FrozenSet[str], whole: bool) -> Decoded:
    """Decode a body of Triton's generate extension: inputs by name, beside keys that are no inputs of this model.

    whole: the model interprets the whole object itself. Without names, `text_input` is the input. Raises Problem.
    """
    value = parse(body, lenient=True)
    if not isinstance(value, dict):
        raise Problem(
            422, "unknown_dialect", f"The body is {shown(value)}, not an object.", 'Send {"text_input": "…"}.'
        )
    request_id = value.get("id")
    content: Content = Named(value)
    if not whole:
        inputs = {name: item for name, item in value.items() if name in names}
        if not inputs and TEXT_INPUT in value:
            content = content_of(value[TEXT_INPUT], repr(TEXT_INPUT))
        else:
            content = Named(inputs or {name: item for name, item in value.items() if name not in _BESIDE})
    return Decoded(content, FORM_GENERATE, request_id if isinstance(request_id, str) else None)


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
            f"Besides {key!r} the body has unknown keys: {', '.join(map(shown, extra))}.",
            f"Remove them, or put the features inside {key!r}.",
            unknown=extra,
        )
    value = body[key]
    if key == "dataframe_split":
        return split_frame(value)
    if key == "dataframe_records" and not isinstance(value, list):
        raise _not_content(key, value)
    return content_of(value, repr(key))


def content_of(value: Any, place: str) -> Content:
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
                "Send all rows in the same format.",
                row=index,
            )
        if row.keys() != first.keys():
            different = sorted(row.keys() ^ first.keys())
            raise Problem(
                422,
                "ragged_rows",
                f"Row {index} does not have the names of row 0; they differ in {', '.join(map(shown, different))}.",
                "Give every row the same names; write a missing value as null.",
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
            "pandas writes this format with df.to_json(orient='split').",
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
        return content_of(rows, '"data"')
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        if isinstance(columns, list) and all(type(name) is int for name in columns):  # pandas numbers unnamed columns
            return content_of(rows, '"data"')
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
        and all(isinstance(tensor, dict) and {"name", "shape", "datatype"} <= tensor.keys() for tensor in inputs)
    )
