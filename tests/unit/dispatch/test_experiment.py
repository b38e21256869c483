"""Requests under an experiment: the key decides the arm, wherever it comes from and whichever gateway is asked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from app.core.rollout.keys import Identity, key_source, sealed
from app.core.rollout.split import arm_of
from app.core.route import Arm, Route
from app.core.route_table import route_table
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.dispatch.rollout import experiment
from model_container.contract import frames
from tests.unit.dispatch.canary_lab import CANDIDATE, STABLE, under_canary
from tests.unit.dispatch.doors import gateway

KEYS = [f"user-{number}" for number in range(300)]


def split(*weights: float, key: str = "", rollout_id: str = "e1") -> Route:
    arms = tuple(Arm(model_id, weight) for model_id, weight in zip((STABLE, CANDIDATE), weights, strict=True))
    return Route(arms, rollout_id=rollout_id, key=key_source(key))


def by_header(key: str, request_id: str = "") -> Call:
    return Call("iris", b"1", "here", request_id=request_id, identity=Identity(key))


async def arm(dispatcher: Dispatcher, call: Call) -> str:
    answer = await dispatcher.predict(call)
    assert answer.status == 200, answer.body
    return answer.headers["x-model-id"]


async def test_two_gateways_give_a_key_the_same_arm(tmp_path: Path) -> None:
    met = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        async with under_canary(tmp_path / name, route=split(0.5, 0.5)) as versions:
            met.append([await arm(versions.dispatcher, by_header(key)) for key in KEYS])
    assert met[0] == met[1]
    assert min(Counter(met[0]).values()) > 100


async def test_more_weight_moves_callers_into_that_arm_alone(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=split(0.8, 0.2)) as versions:
        before = [await arm(versions.dispatcher, by_header(key)) for key in KEYS]
        await versions.publish(split(0.5, 0.5))
        after = [await arm(versions.dispatcher, by_header(key)) for key in KEYS]
    moves = Counter(zip(before, after, strict=True))
    assert moves[CANDIDATE, STABLE] == 0
    assert 50 < moves[STABLE, CANDIDATE] < 130, "30 % of 300"


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("", Call("iris", b"1", "here", identity=Identity("ann"))),
        ("query:user", Call("iris", b"1", "here", identity=Identity(query="a=1&user=ann"))),
        ("query:user", Call("iris", b"1", "here", identity=Identity("ann", query="user=bob"))),
        ("body:user", Call("iris", b'{"inputs": [[1, 2]], "user": "ann"}', "here")),
        ("body:inputs.user", Call("iris", b'{"inputs": {"x": [[]], "user": ["ann"]}}', "here")),
    ],
)
async def test_the_key_comes_from_the_header_or_where_the_experiment_says(
    tmp_path: Path, source: str, call: Call
) -> None:
    async with under_canary(tmp_path, route=split(0.5, 0.5, key=source)) as versions:
        assert await arm(versions.dispatcher, call) == arm_of("ann", "e1", split(0.5, 0.5).arms)
        assert list(versions.dispatcher.take_exposures("iris")) == [sealed("ann", "e1")]


async def test_an_api_key_is_the_key_of_requests_without_another(tmp_path: Path) -> None:
    call = Call("iris", b"1", "here", identity=Identity(api_key="secret"))
    async with under_canary(tmp_path, route=split(0.5, 0.5, key="query:user")) as versions:
        assert len({await arm(versions.dispatcher, call) for _ in range(20)}) == 1
        noted = versions.dispatcher.take_exposures("iris")
    assert len(noted) == 1
    assert "secret" not in json.dumps(noted)


@pytest.mark.parametrize(
    "body", [b"1", b"[]", b"{", b'{"user": {"id": 1}}', b'{"user": null}', b'{"user": ["a", "b"]}', b'{"user": ""}']
)
async def test_requests_without_a_key_meet_every_arm_and_are_no_part_of_it(tmp_path: Path, body: bytes) -> None:
    call = Call("iris", body, "here", request_id="q1")
    async with under_canary(tmp_path, route=split(0.5, 0.5, key="body:user")) as versions:
        met = Counter([await arm(versions.dispatcher, call) for _ in range(40)])
        assert min(met.values()) >= 18
        assert versions.dispatcher.take_exposures("iris") == {}
        assert versions.dispatcher.exposure("q1") is None


async def test_a_large_body_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"user": "ann", "pad": "' + b"x" * (1 << 16) + b'"}'
    async with under_canary(tmp_path, route=split(0.5, 0.5, key="body:user")) as versions:
        await arm(versions.dispatcher, Call("iris", body, "here"))
        assert versions.dispatcher.take_exposures("iris") == {}


async def test_the_arm_of_a_request_is_remembered_for_a_bounded_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "REQUESTS_MAX", 2)
    async with under_canary(tmp_path, route=split(0.5, 0.5)) as versions:
        dispatcher = versions.dispatcher
        answered = await arm(dispatcher, by_header("ann", "q1"))
        found = dispatcher.exposure("q1")
        assert found is not None
        assert (found.rollout_id, found.model_id, found.key) == ("e1", answered, sealed("ann", "e1"))
        await arm(dispatcher, by_header("bob", "q2"))
        await arm(dispatcher, by_header("cyd", "q3"))
        assert dispatcher.exposure("q1") is None
        assert dispatcher.exposure("q3") is not None
        assert set(dispatcher.take_exposures("iris")) == {sealed(key, "e1") for key in ("ann", "bob", "cyd")}
        await arm(dispatcher, by_header("ann", "q4"))
        assert dispatcher.take_exposures("iris") == {}, "it came before"


async def test_a_lost_arm_leaves_its_callers_to_the_other(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=split(0.5, 0.5)) as versions:
        only = [deployment for deployment in versions.deployments if deployment.model_id == STABLE]
        await versions.dispatcher.publish(route_table(only, splits={"iris": split(0.5, 0.5)}))
        assert {await arm(versions.dispatcher, by_header(key)) for key in KEYS[:20]} == {STABLE}


async def test_both_doors_take_the_header(tmp_path: Path) -> None:
    """The fast one answers it itself: it has no reason to hand such a request over."""
    async with gateway(tmp_path, keys=["k1"]) as here:
        headers = [(b"host", b"prism.example"), (b"content-length", b"1"), (b"x-api-key", b"k1")]
        head = here.door.read_head(b"/models/iris/predict", [*headers, (b"x-prism-key", b"ann")], "127.0.0.1")
        assert head is not None
        assert head.identity == Identity("ann", api_key="k1")
        assert not head.is_lasting, "the next caller is another one"
        plain = here.door.read_head(b"/models/iris/predict", headers, "127.0.0.1")
        assert plain is not None
        assert plain.is_lasting


async def test_a_binary_v2_request_has_its_key_in_the_json_before_the_tensors(tmp_path: Path) -> None:
    text = b'{"parameters": {"user": "ann"}}'
    call = Call("iris", frames.JSON_LENGTH.pack(len(text)) + text + b"\0\1", "here", dialect=frames.DIALECT_V2_BINARY)
    assert experiment.json_of(call.body, call.dialect) == text
    assert experiment.json_of(b"user\nann", frames.DIALECT_CSV) == b""
