"""Request bodies passed on as sent, for a model whose own code interprets them.

{"features": X} and its synonyms, MLflow's dataframe_records     X
{"dataframe_split": …}, CSV, Parquet                                  a list of objects, one per row
tensors of V2                                                    an object of numpy arrays
the object of the generate extension                             itself
any other object, any list                                       itself
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from model_container.bodies import csv_table, json_dialects, parquet_table, v2
from model_container.bodies.content import Content, Decoded, Named, Rows, no_rows
from model_container.bodies.json_body import parse
from model_container.bodies.problems import Problem
from model_container.contract.frames import (
    DIALECT_CSV,
    DIALECT_GENERATE,
    DIALECT_JSON,
    DIALECT_PARQUET,
    DIALECT_V2_BINARY,
    Request,
)

_NOTHING: Dict[str, Any] = {"inputs": []}


def decode(request: Request) -> Decoded:
    """Decode to Rows as they were sent, or to Named for an object.

    Raises Problem if the body does not fit its dialect.
    """
    if request.dialect == DIALECT_V2_BINARY:
        return _with_arrays(v2.decode(request.body, lambda: _NOTHING))
    if request.dialect == DIALECT_GENERATE:
        return json_dialects.decode_generate(request.body, frozenset(), whole=True)
    if request.dialect == DIALECT_CSV:
        decoded = csv_table.decode(request)
        return decoded._replace(content=Rows(_records(decoded.content.values)))
    if request.dialect == DIALECT_PARQUET:
        decoded = parquet_table.decode(request)
        columns = {name: parquet_table.plain(values) for name, values in decoded.content.values.items()}
        return decoded._replace(content=Rows(_records(columns)))
    value = parse(request.body, lenient=request.dialect != DIALECT_JSON)
    if request.dialect == DIALECT_JSON:
        if isinstance(value, dict) and json_dialects.is_v2(value):
            return _with_arrays(json_dialects.decode(request.body))
        return Decoded(_content(value if _key(value, json_dialects.KEYS) is None else _kept(value, json_dialects.KEYS)))
    if request.dialect not in json_dialects.KEYED:
        raise Problem(
            400, "unknown_dialect", f"This runtime does not know the dialect {request.dialect}.", "Restart the model."
        )
    keys, ignored = json_dialects.KEYED[request.dialect]
    body = {key: item for key, item in value.items() if key not in ignored} if isinstance(value, dict) else value
    if _key(body, keys) is None:
        raise Problem(
            422,
            "unknown_dialect",
            f"The body is not an object with one of {', '.join(map(repr, keys))}.",
            f'Send {{"{keys[0]}": …}}.',
        )
    return Decoded(_content(_kept(body, keys)))


def _key(value: Any, keys: Any) -> Optional[str]:
    """Return the key that holds the rows, if it is the only key.

    Otherwise return None, since the other keys then matter too.
    """
    if not isinstance(value, dict) or len(value) != 1:
        return None
    (key,) = value
    return key if key in keys else None


def _kept(value: Dict[str, Any], keys: Any) -> Any:
    key = _key(value, keys)
    held = value[key] if key else value
    if key == "dataframe_split":
        columns = json_dialects.split_frame(held)
        return _records(columns.values) if isinstance(columns, Named) else columns.values
    return held


def _content(value: Any) -> Content:
    if isinstance(value, dict):
        return Named(value)
    rows = value if isinstance(value, list) else [value]
    if not rows:
        raise no_rows()
    return Rows(rows)


def _records(columns: Dict[str, List[Any]]) -> List[Dict[str, Any]]:
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def _with_arrays(decoded: Decoded) -> Decoded:
    content = decoded.content
    assert isinstance(content, Named)  # always the case for V2
    shapes = content.shapes
    arrays = {name: np.asarray(value).reshape(shapes[name]) for name, value in content.values.items()}
    return decoded._replace(content=Named(arrays, shapes))
