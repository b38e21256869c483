"""JSON of what models return. NaN and infinities are written as null."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np


def _plain(value: Any) -> Any:
    """Convert values that models return and that JSON has no type for."""
    if isinstance(value, np.generic):
        return value.item() if type(value.item()) is not type(value) else str(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return str(value)


encode_json = msgspec.json.Encoder(enc_hook=_plain).encode
