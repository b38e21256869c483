"""Decoding of request bodies by their dialect."""

from __future__ import annotations

from model_container.adapters.base import Adapter, AsSent, ReadingTexts
from model_container.bodies import csv_table, free_form, json_dialects, v2
from model_container.bodies.content import CsvTable, Decoded, Rows
from model_container.bodies.form_files import files_of
from model_container.bodies.problems import Problem
from model_container.contract.frames import (
    DIALECT_CSV,
    DIALECT_FILE,
    DIALECT_FORM,
    DIALECT_GENERATE,
    DIALECT_JSON,
    DIALECT_MLFLOW,
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
    raise Problem(
        400, "unknown_dialect", f"This runtime does not know the dialect {request.dialect}.", "Restart the model."
    )


def table_of(request: Request, adapter: Adapter) -> CsvTable:
    """Return the rows of a table, without reading their cells. Raises Problem."""
    return csv_table.read(request.body, [port["name"] for port in adapter.signature()["inputs"]])


def may_be_plain(request: Request) -> bool:
    """Return whether numeric_fast_path.py may read the request without accepting anything that its dialect does not."""
    return request.dialect == DIALECT_JSON or request.body.startswith(_PLAIN_STARTS.get(request.dialect, ()))
