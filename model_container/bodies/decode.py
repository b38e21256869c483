"""Decoding of request bodies by their dialect."""

from __future__ import annotations

from typing import Callable, Sequence, Tuple

import numpy as np

from model_container.adapters.base import Adapter, AsSent, ReadingTexts
from model_container.bodies import csv_table, free_form, json_dialects, parquet_table, v2
from model_container.bodies.content import Content, CsvTable, Decoded, Named, Rows
from model_container.bodies.form_files import files_of
from model_container.bodies.problems import Problem
from model_container.contract.frames import (
    DIALECT_CSV,
    DIALECT_FILE,
    DIALECT_FORM,
    DIALECT_GENERATE,
    DIALECT_JSON,
    DIALECT_MLFLOW,
    DIALECT_PARQUET,
    DIALECT_V1,
    DIALECT_V2_BINARY,
    Request,
)

_PLAIN_STARTS = {
    DIALECT_V1: (b'{"instances"', b'{"inputs"'),
    DIALECT_MLFLOW: (b'{"instances"', b'{"inputs"'),
}


def read(request: Request, adapter: Adapter) -> Decoded:
    """Decode a request; files are rows of bytes. Raises Problem if the body does not fit its dialect."""
    if request.dialect == DIALECT_FILE:
        return Decoded(Rows([request.body]))
    if request.dialect == DIALECT_FORM:
        return Decoded(Rows(files_of(request.body)))
    if isinstance(adapter, AsSent):
        return free_form.decode(request)
    if request.dialect == DIALECT_JSON:
        return json_dialects.decode(request.body, adapter.names)
    if request.dialect == DIALECT_V2_BINARY:
        return v2.decode(request.body, adapter.signature)
    if request.dialect in json_dialects.KEYED:
        return json_dialects.decode_keyed(request.body, *json_dialects.KEYED[request.dialect])
    if request.dialect == DIALECT_GENERATE:
        return json_dialects.decode_generate(request.body, adapter.names, whole=False)
    if request.dialect == DIALECT_CSV:
        texts = adapter.texts if isinstance(adapter, ReadingTexts) else frozenset()
        return csv_table.decode(request, adapter.signature()["inputs"], texts)
    if request.dialect == DIALECT_PARQUET:
        return parquet_table.decode(request)
    raise Problem(
        400, "unknown_dialect", f"This runtime does not know the dialect {request.dialect}.", "Restart the model."
    )


def rows_of(request: Request, adapter: Adapter) -> Tuple[CsvTable, Callable[[Sequence[int]], Decoded]]:
    """Return a table that is to be answered by its rows, and a function that decodes those with the given indices.

    Raises Problem, as does the function.
    """
    if request.dialect == DIALECT_PARQUET:
        whole = read(request, adapter)
        assert whole.table is not None  # its rows are to be answered
        return whole.table, lambda rows: whole._replace(content=_part(whole.content, rows))
    table = csv_table.read(request.body, [port["name"] for port in adapter.signature()["inputs"]])
    return table, lambda rows: read(request._replace(body=csv_table.body_of(table, rows)), adapter)


def _part(content: Content, rows: Sequence[int]) -> Content:
    if isinstance(content, Rows):
        return Rows([content.values[row] for row in rows])
    columns = content.values.items()
    return Named(
        {
            name: each[list(rows)] if isinstance(each, np.ndarray) else [each[row] for row in rows]
            for name, each in columns
        }
    )


def may_be_plain(request: Request) -> bool:
    """Return whether numeric_fast_path.py may read the request without accepting anything that its dialect does not."""
    return request.dialect == DIALECT_JSON or request.body.startswith(_PLAIN_STARTS.get(request.dialect, ()))
