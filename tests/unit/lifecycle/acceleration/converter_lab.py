"""A converter whose verdict the test sets."""

from __future__ import annotations

import json

from app.core.inspection import Format, Inspection, Pin

# ir_version 8, then a graph without nodes, then opset 17 of the standard domain.
SMALLEST_ONNX = bytes((0x08, 8, 0x3A, 2, 0x12, 0, 0x42, 4, 0x0A, 0, 0x10, 17))


REPORT = json.dumps({"speedup": {"1": 200.0, "256": 5.0}, "rows_compared": 8100, "converter": "skl2onnx 1"}).encode()


SKLEARN = Inspection(Format.PICKLE, pins=(Pin("scikit-learn", "==1.5.2", "it says so"),))


async def converts() -> tuple[bytes, bytes]:
    return REPORT, SMALLEST_ONNX
