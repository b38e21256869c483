"""The content types of a predict request beside JSON, each with the dialect of its body."""

from __future__ import annotations

from typing import Dict

from model_container.contract.file_types import AUDIO, IMAGE, PARQUET_TYPE, content_types
from model_container.contract.frames import DIALECT_CSV, DIALECT_FILE, DIALECT_FORM, DIALECT_JSON, DIALECT_PARQUET

DIALECTS: Dict[str, int] = {
    "text/csv": DIALECT_CSV,
    PARQUET_TYPE: DIALECT_PARQUET,
    **dict.fromkeys((*content_types(IMAGE), *content_types(AUDIO)), DIALECT_FILE),
    "multipart/form-data": DIALECT_FORM,
}


def kind_of(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def dialect_of(content_type: str) -> int:
    """Return the dialect of a body; that of JSON for a type that is not listed here."""
    return DIALECTS.get(kind_of(content_type), DIALECT_JSON)
