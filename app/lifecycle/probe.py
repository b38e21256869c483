"""Checks whether a model answers a real sample, before it takes traffic and at every health check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
            hint="Give a sample that the model was trained to accept, and upload again.",
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
