"""What a model does in memory, no server around it: the ceiling of every server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
import onnxruntime

from scripts.peers.models import MODELS, Sample, train

BATCHES = (1, 32, 256)
Predict = Callable[[np.ndarray], object]


class Baseline(msgspec.Struct, frozen=True):
    """iterations: how many calls fitted into the time, at most what was asked for."""

    model: str
    rows: int
    rows_per_second: float
    p50_ms: float
    p99_ms: float
    iterations: int


def baselines(iterations: int, seconds: float, names: Sequence[str] = MODELS) -> Iterator[Baseline]:
    """Each model in scikit-learn and in ONNX, at each batch size. seconds: the longest one line may take."""
    for name in names:
        sample = train(name)
        for library, predict in _predictors(sample).items():
            for rows in BATCHES:
                batches = [np.roll(sample.rows, -start, axis=0)[:rows].copy() for start in range(0, 500, 25)]
                took = time_calls(predict, batches, iterations, seconds)
                yield summarize(f"{library} {name}", rows, took)


def _predictors(sample: Sample) -> dict[str, Predict]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as a server's: a thread pool costs one row more than it saves
    session = onnxruntime.InferenceSession(sample.onnx, options, providers=["CPUExecutionProvider"])
    return {
        "scikit-learn": sample.estimator.predict,
        "ONNX": lambda rows: session.run(None, {"features": rows}),
    }


def time_calls(predict: Predict, batches: Sequence[np.ndarray], iterations: int, seconds: float) -> list[float]:
    """Seconds of each call, the batches in turn; ends after `iterations` calls or when `seconds` are over."""
    for batch in batches[:3]:
        predict(batch)  # warm-up
    took: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(took) < iterations and (not took or time.perf_counter() < deadline):
        batch = batches[len(took) % len(batches)]
        began = time.perf_counter()
        predict(batch)
        took.append(time.perf_counter() - began)
    return took


def summarize(model: str, rows: int, took: Sequence[float]) -> Baseline:
    p50, p99 = np.percentile(took, [50, 99]) * 1000
    return Baseline(model, rows, rows * len(took) / sum(took), float(p50), float(p99), len(took))


def markdown(results: Sequence[Baseline]) -> str:
    head = "| model | rows a call | rows/s | p50 ms | p99 ms | calls |\n| --- | --- | --- | --- | --- | --- |"
    lines = [
        f"| {result.model} | {result.rows} | {result.rows_per_second:,.0f} | {result.p50_ms:.3f} | {result.p99_ms:.3f} "
        f"| {result.iterations:,} |"
        for result in results
    ]
    return "\n".join([head, *lines])
