"""`python -m scripts.benchmark.in_memory FILE BODIES SECONDS`: a model in this process, without any server.

On one thread, as PRISM runs it. Prints, as JSON, rows a second of predict alone on an array that is there, and of
predict with the decoding of a request body and the encoding of an answer, as any server in Python must do it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def main(file: Path, bodies: list[bytes], seconds: float) -> None:
    os.environ.update(THREADS)  # read by the libraries when they are loaded
    import msgspec
    import numpy as np

    predict, dtype = loaded(file)
    arrays = [np.asarray(json.loads(body)["features"], dtype) for body in bodies]
    rows = len(arrays[0])

    def with_json(body: bytes) -> bytes:
        array = np.asarray(msgspec.json.decode(body)["features"], dtype)
        return msgspec.json.encode({"predictions": predict(array).tolist()})

    alone, whole = calls_per_second(predict, arrays, seconds), calls_per_second(with_json, bodies, seconds)
    print(json.dumps({"predict": alone * rows, "with_json": whole * rows}))


def loaded(file: Path) -> tuple[Callable[[Any], Any], str]:
    """The predict of a model file, and the dtype it takes."""
    if file.suffix != ".onnx":
        import joblib

        model = joblib.load(file)
        if hasattr(model, "n_jobs"):
            model.n_jobs = 1
        return model.predict, "float64"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return lambda array: session.run(outputs, {name: array})[0], "float32"


def calls_per_second(call: Callable[[Any], Any], arguments: list[Any], seconds: float) -> float:
    for argument in arguments:
        call(argument)
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        call(arguments[count % len(arguments)])
        count += 1
    return count / passed


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes().splitlines(), float(sys.argv[3]))
