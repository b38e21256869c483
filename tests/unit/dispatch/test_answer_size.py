"""An answer that is too large is a problem that says so: the runtime knows how large it may be, and keeps to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from app.dispatch.connection import WireLimits
from app.dispatch.request import Call
from model_container.bodies.problems import Problem
from model_container.contract.frames import Answer
from model_container.server import answer_size
from tests.unit.dispatch.stream_lab import FLOW, gateway
from tests.unit.model_container.streaming_lab import Model

SMALL = structs.replace(FLOW, wire=WireLimits(max_answer_bytes=1000))


async def test_a_runtime_reports_an_answer_that_is_too_large_and_stays_connected(tmp_path: Path) -> None:
    model = Model()
    model.size = 2000
    async with gateway(tmp_path, model, SMALL) as here:
        for _ in range(2):
            answer = await here.dispatcher.predict(Call("counter", b'{"features": [[1]]}', "me"))
            assert (answer.status, json.loads(answer.body)["code"]) == (500, "answer_too_large")
        model.size = 1
        assert (await here.dispatcher.predict(Call("counter", b'{"features": [[1]]}', "me"))).status == 200


async def test_an_item_that_is_too_large_ends_its_stream_with_an_error(tmp_path: Path) -> None:
    model = Model()
    model.size = 2000
    async with gateway(tmp_path, model, SMALL) as here:
        stream = here.stream(3)
        assert await stream.first() == []
        assert stream.answer is not None
        assert json.loads(stream.answer.body)["code"] == "answer_too_large"
        stream.close()


def test_an_answer_that_does_not_fit_into_its_batch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Answer(b"x" * 900)
    monkeypatch.setattr(answer_size, "ANSWERS_BYTES_MAX", 2_000 + 3 * answer_size.ROOM_FOR_A_PROBLEM)
    first, second, third = answer_size.within([large] * 3, 1000)
    assert (first, second) == (large, large)
    assert json.loads(third.body)["code"] == "answer_too_large"


def test_a_problem_of_thousands_of_columns_keeps_its_code_and_detail() -> None:
    columns = [f"column {number}" for number in range(20_000)]
    answer = Problem(422, "wrong_columns", "They are wrong.", "Look.", columns=columns).answer()
    assert json.loads(answer.body) == {"code": "wrong_columns", "detail": "They are wrong.", "hint": "Look."}
