"""Chaos at the edge of a version's replicas: their answers are spoilt, delayed or held back before anyone sees them."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import Any

import msgspec
from msgspec import structs

from app.core.chaos import Chaos, ChaosKind
from app.core.foreign_json import ForeignJsonError, read_json
from app.dispatch.connection import Batch, Reply
from model_container.contract import frames
from model_container.contract.frames import Answer

KEPT_MEMBERS = ("name", "shape", "datatype", "parameters")
"""Members of a V2 output that say what it is, not what was predicted."""

FAILURE = Answer(
    b'{"code":"chaos","detail":"An admin has this version fail on purpose.","hint":"It is over by itself."}',
    500,
    frames.FORM_PROBLEM,
)


class ChaosEdge:
    """What stands between the replicas of one version and their lane while chaos acts. Streams pass unchanged.

    A batch whose replica is lost is lost at once, whatever the fault.
    """

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._random = Random()
        self._held: dict[Reply, Batch] = {}
        self._timers: dict[Reply, asyncio.TimerHandle] = {}

    def spoiling(self, reply: Reply) -> Reply:
        """Return the function that takes a batch's answers in the place of `reply`, and passes on what is made of them."""
        return partial(self._spoil, reply)

    def _spoil(self, reply: Reply, batch: Batch | None) -> None:
        if batch is None:
            reply(None)
            return
        if self._chaos.kind in (ChaosKind.HANG, ChaosKind.LATENCY):
            self._held[reply] = batch
            if self._chaos.kind is ChaosKind.LATENCY:
                loop = asyncio.get_running_loop()
                self._timers[reply] = loop.call_later(self._chaos.latency_ms / 1000, self._release, reply)
            return
        reply(structs.replace(batch, answers=spoilt(self._chaos, batch.answers, self._random)))

    def _release(self, reply: Reply) -> None:
        self._timers.pop(reply, None)
        reply(self._held.pop(reply))

    def end(self) -> None:
        """Pass on what is held back."""
        for timer in self._timers.values():
            timer.cancel()
        for reply in list(self._held):
            self._release(reply)


def spoilt(chaos: Chaos, answers: list[tuple[bytes, int, int]], random: Random) -> list[tuple[bytes, int, int]]:
    """Return what callers get in the place of a batch's answers: (body, status, form) each."""
    if chaos.kind is ChaosKind.ERRORS:
        return [
            (FAILURE.body, FAILURE.status, FAILURE.form) if random.random() < chaos.share else answer
            for answer in answers
        ]
    if chaos.kind is ChaosKind.NONSENSE:
        return [_nonsense(*answer) for answer in answers]
    return answers


def _nonsense(body: bytes, status: int, form: int) -> tuple[bytes, int, int]:
    if form == frames.FORM_PROBLEM:
        return body, status, form
    if form == frames.FORM_BESIDE_IGNORED:
        body, form, _ = frames.without_ignored(body)
    if form in (frames.FORM_V2_BINARY, frames.FORM_CSV):
        return b"", status, form
    try:
        return msgspec.json.encode(_senseless(read_json(body))), status, form
    except ForeignJsonError:
        return body, status, form


def _senseless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: each if name in KEPT_MEMBERS else _senseless(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_senseless(each) for each in value]
    return "nonsense" if isinstance(value, str) else None
