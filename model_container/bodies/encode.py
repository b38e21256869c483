"""Encoding of one request's outputs in the dialect of the request. NaN and infinities are written as null."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from model_container.adapters.base import PROBABILITIES, Outputs
from model_container.bodies.binary import bytes_from, bytes_from_texts
from model_container.bodies.content import Decoded
from model_container.bodies.csv_answer import result_columns, table_with_results
from model_container.bodies.plain_json import encode_json
from model_container.bodies.problems import Problem
from model_container.bodies.values import datatype_of
from model_container.contract.frames import (
    FORM_BESIDE_IGNORED,
    FORM_CSV,
    FORM_GENERATE,
    FORM_NATIVE,
    FORM_V2,
    FORM_V2_BINARY,
    IGNORED_BYTES_MAX,
    JSON_LENGTH,
    Answer,
    beside,
)

PREDICTIONS = "predictions"
"""Name of an output that the model does not name."""


def encode(decoded: Decoded, outputs: Outputs, classes: List[Any]) -> Answer:
    """Encode the outputs of one request. Raises Problem if it asks for an output that the model does not have."""
    if decoded.form == FORM_V2:
        return _v2(decoded, outputs)
    if decoded.form == FORM_GENERATE:
        return Answer(encode_json(_generated(decoded, outputs)), 200, FORM_GENERATE)
    if decoded.table is not None:
        rows = len(decoded.table.lines)
        errors = [""] * rows if decoded.has_errors else None
        return Answer(table_with_results(decoded.table, result_columns(outputs, classes, rows), errors), 200, FORM_CSV)
    if outputs.by_row:
        rows = len(next(iter(outputs.values.values())))
        return Answer(encode_native(outputs, [rows], classes)[0], 200, FORM_NATIVE)
    return Answer(encode_json({"predictions": _predictions(outputs)}), 200, FORM_NATIVE)


def beside_ignored(answer: Answer, ignored: Sequence[str]) -> Answer:
    """Return an answer with the names of the columns that were ignored: those that fit a header, then how many more."""
    shown: List[str] = []
    for index, name in enumerate(ignored):
        if len(_ascii_list([*shown, name, f"and {len(ignored)} more"])) > IGNORED_BYTES_MAX:
            shown.append(f"and {len(ignored) - index} more")
            break
        shown.append(name)
    return Answer(beside(answer.form, _ascii_list(shown), answer.body), 200, FORM_BESIDE_IGNORED)


def _ascii_list(texts: Sequence[str]) -> bytes:
    """Encode a list in JSON with printable ASCII only."""
    return json.dumps(texts).replace("\x7f", "\\u007f").encode()


def encode_native(outputs: Outputs, lengths: Sequence[int], classes: List[Any]) -> List[bytes]:
    """Encode the native answers of requests that shared one call. lengths: number of rows of each request, in order.

    Raises ValueError for an output that belongs to the call as a whole.
    """
    if not outputs.by_row:
        raise ValueError("the output cannot be told apart by rows")
    predictions = _predictions(outputs)
    shares = None if outputs.probabilities is None else _probabilities(outputs.probabilities)
    bodies, start = [], 0
    for length in lengths:
        end = start + length
        document: Dict[str, Any] = {"predictions": predictions[start:end]}
        if shares is not None:
            document[PROBABILITIES] = shares[start:end]
            document["classes"] = classes
        bodies.append(encode_json(document))
        start = end
    return bodies


TEXT_OUTPUT = "text_output"
"""Name of an unnamed output in the generate extension."""


def items_of(outputs: Outputs) -> List[Any]:
    """Return one prediction per row, with its probabilities if they were requested."""
    predictions = _predictions(outputs)
    if outputs.probabilities is None:
        return predictions
    shares = _probabilities(outputs.probabilities)
    return [{"prediction": prediction, PROBABILITIES: share} for prediction, share in zip(predictions, shares)]


def generated(item: Any, name: str) -> Dict[str, Any]:
    """Return a stream's item in the form of the generate extension. name: of the model's only output."""
    return item if isinstance(item, dict) else {name: item}


def _generated(decoded: Decoded, outputs: Outputs) -> Dict[str, Any]:
    """Return the outputs in the form of the generate extension, like Triton: single values bare, others as lists."""
    document: Dict[str, Any] = {} if decoded.id is None else {"id": decoded.id}
    for name, value in outputs.values.items():
        listed = _listed(value)
        is_single = isinstance(listed, list) and len(listed) == 1
        document[TEXT_OUTPUT if name == PREDICTIONS else name] = listed[0] if is_single else listed
    return document


def _predictions(outputs: Outputs) -> List[Any]:
    columns = [_listed(value) for value in outputs.values.values()]
    if not outputs.by_row:
        return [dict(zip(outputs.values, columns))] if outputs.named else columns
    if not outputs.named:
        return columns[0]
    return [dict(zip(outputs.values, row)) for row in zip(*columns)]


def _probabilities(arrays: List[Any]) -> List[Any]:
    columns = [_listed(array) for array in arrays]
    return columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns)]


def _listed(value: Any) -> List[Any]:
    return value.tolist() if isinstance(value, np.ndarray) else value  # type: ignore[no-any-return]


def _v2(decoded: Decoded, outputs: Outputs) -> Answer:
    values = dict(outputs.values)
    for index, array in enumerate(outputs.probabilities or []):
        name = PROBABILITIES if len(outputs.probabilities or []) == 1 else f"{PROBABILITIES}_{index}"
        values[name] = array
    wanted = decoded.outputs or list(values)
    unknown = [name for name in wanted if name not in values]
    if unknown:
        raise Problem(422, "unknown_output", f"The model has no output {unknown[0]!r}.", f"It has {', '.join(values)}.")
    binary = [name for name in wanted if decoded.binary.get(name, decoded.all_binary)]
    tensors, raws = [], []
    for name in wanted:
        tensor, raw = _tensor(name, values[name], outputs.datatypes.get(name), name in binary)
        tensors.append(tensor)
        raws.append(raw)
    body = encode_json({"outputs": tensors} if decoded.id is None else {"id": decoded.id, "outputs": tensors})
    if not binary:
        return Answer(body, 200, FORM_V2)
    return Answer(b"".join((JSON_LENGTH.pack(len(body)), body, *raws)), 200, FORM_V2_BINARY)


def _tensor(name: str, value: Any, datatype: Optional[str], is_binary: bool) -> Tuple[Dict[str, Any], bytes]:
    """Return an output as a V2 tensor, and its bytes if it is requested in binary.

    A value that is no tensor becomes a tensor of BYTES: one element per list item, one element for a map. Strings are
    kept; any other element is encoded as JSON.
    """
    data: Any
    if isinstance(value, np.ndarray):
        datatype, shape, data = datatype or datatype_of(value.dtype), list(value.shape), value.ravel()
    else:
        data = [] if value is None else [value] if isinstance(value, dict) else value
        datatype, shape = "BYTES", [len(data)]
    tensor = {"name": name, "datatype": datatype, "shape": shape}
    if datatype == "BYTES":
        data = [item if isinstance(item, (str, bytes)) else encode_json(item).decode() for item in _listed(data)]
    if is_binary:
        raw = bytes_from_texts(data) if datatype == "BYTES" else bytes_from(data, datatype)
        return {**tensor, "parameters": {"binary_data_size": len(raw)}}, raw
    if datatype == "BYTES":
        data = [item if isinstance(item, str) else item.decode("utf-8", "replace") for item in data]
    return {**tensor, "data": _listed(data)}, b""
