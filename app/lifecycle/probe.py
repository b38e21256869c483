"""Checks whether a model answers a real sample, before it takes traffic and at every health check."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.core.foreign_json import ForeignJsonError, read_json
from app.core.inspection import Format
from app.core.model import ModelVersion, Replica
from app.errors import ProbeFailed
from model_container.contract.frames import Answer, Request


class Pulse(Protocol):
    """A heartbeat: how long the current prediction has taken, 0 when idle."""

    @property
    def busy_ms(self) -> int: ...


class ProbedConnection(Protocol):
    """The part of a connection to a replica that probing needs; dispatch/connection.py implements it."""

    async def predict(self, request: Request) -> Answer: ...

    async def ping(self) -> Pulse: ...

    async def convert(self) -> tuple[bytes, bytes]: ...

    def close(self) -> None: ...


DETAIL_CHARACTERS_MAX = 2000
PICKLES = (Format.PICKLE, Format.JOBLIB, Format.SKOPS)
CHECK_TIMEOUT_SECONDS = 5.0
"""How long a running replica may take to answer a check; long enough that a busy machine costs no replica."""

Connect = Callable[[Replica, float], Awaitable[tuple[ProbedConnection, dict[str, Any]]]]
"""(replica, timeout in seconds) → an open connection and the replica's welcome. Raises Unavailable errors."""


async def probe(model: ModelVersion, connection: ProbedConnection, samples: list[Any]) -> Any:
    """Return the sample that the model answers: its owner's if given, otherwise the first of the runtime's that works.

    samples: request bodies made from the signature. Raises ProbeFailed with the model's own words.
    """
    candidates = [model.spec.expected_input] if model.spec.expected_input is not None else samples
    problem = "The runtime could not make a sample from the model's signature."
    for index, sample in enumerate(candidates):
        answer = await connection.predict(Request(msgspec.json.encode(sample)))
        if answer.status == 200:
            return sample
        if index == 0:
            problem = _detail(answer.body)
    raise _failure(model, candidates, problem)


def _detail(problem: bytes) -> str:
    """Return the text of a runtime's problem, whatever it sent."""
    try:
        return str(read_json(problem, dict[str, Any]).get("detail", ""))[:DETAIL_CHARACTERS_MAX]
    except ForeignJsonError:
        return problem[:DETAIL_CHARACTERS_MAX].decode(errors="replace")


def _failure(model: ModelVersion, candidates: list[Any], problem: str) -> ProbeFailed:
    if model.spec.expected_input is not None:
        return ProbeFailed(
            f"The model did not answer the sample that was given with it: {problem}",
            hint="Give a sample that the model was trained to accept, and upload again." + _dates_hint(model),
            sample=model.spec.expected_input,
        )
    inspection = model.findings.inspection
    if candidates and inspection is not None and inspection.format is Format.PYTHON:
        return ProbeFailed(
            f"The model did not answer its sample: {problem}",
            hint="Give the class in model.py a request that it answers, in one line such as "
            f"`sample = {repr(candidates[0])[:DETAIL_CHARACTERS_MAX]}`, the first that was tried.",
            samples=candidates,
        )
    return ProbeFailed(
        f"The model answered none of {len(candidates)} samples made from its signature: {problem}",
        hint="Upload it again with a sample that it can answer (`--expected-input`).",
        samples=candidates,
    )


def _dates_hint(model: ModelVersion) -> str:
    """Return how to declare the dates in a pickle's sample, with a space in front; "" for a sample without any.

    Nothing in a pickle says that a column holds dates, so the model gets their text until its owner declares them.
    """
    inspection, sample = model.findings.inspection, model.spec.expected_input
    if inspection is None or inspection.format not in PICKLES or model.spec.calling.inputs:
        return ""
    row = sample[0] if isinstance(sample, list) and sample else sample
    datatypes = {name: _datatype(value) for name, value in row.items()} if isinstance(row, dict) else {}
    dates = [name for name, datatype in datatypes.items() if datatype == "DATETIME"]
    if not dates or None in datatypes.values():
        return ""
    inputs = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {datatype}" for name, datatype in datatypes.items())
    if len(inputs) > DETAIL_CHARACTERS_MAX:
        return ""
    return (
        f" The model got {', '.join(f'`{name}`' for name in dates)} as text; if it takes dates, push a folder with the "
        f"file, its code and a `model_config.yaml` that says `inputs: {{{inputs}}}`."
    )


def _datatype(value: Any) -> str | None:
    """Return the datatype that a value of a sample shows; None for a list or an object."""
    if value is None or isinstance(value, (bool, int, float)):
        return "BOOL" if isinstance(value, bool) else "FP64"
    if not isinstance(value, str):
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return "BYTES"
    return "BYTES" if value.isdigit() else "DATETIME"  # 20240102 is a date in ISO 8601, and more often a number


async def answers_sample(model: ModelVersion, connection: ProbedConnection, patience_seconds: float) -> str:
    """Return "" if the model answers its sample, otherwise what is wrong.

    A replica that is busy with requests counts as answering, unless it has been busy with the same batch for longer
    than `patience_seconds`: its callers have given up by then, and it may never end.
    """
    busy_seconds = (await connection.ping()).busy_ms / 1000
    if busy_seconds > patience_seconds:
        return f"it has worked on one batch for {busy_seconds:.0f} s"
    if busy_seconds:
        return ""
    answer = await connection.predict(Request(msgspec.json.encode(model.findings.sample)))
    if answer.status == 200:
        return ""
    return f"its sample is no longer answered: {answer.body[:300].decode(errors='replace')}"
