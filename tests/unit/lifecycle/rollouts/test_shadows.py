"""Shadows on a gateway's lifecycle with fake replicas: what begins, compares and ends them, and what cannot disturb callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.core.model import Status, TrafficChoice
from app.core.rollout.records import Rollout, RolloutState
from app.core.signature import Signature, Tensor
from app.dispatch.request import Call
from app.errors import BadInput, CatalogUnavailable, Conflict, NotFound
from app.lifecycle.rollouts.shadow_checks import ShadowRequest
from app.lifecycle.rollouts.shadows import ShadowReport, Shadows
from model_container.contract.frames import Answer, Request
from tests.fakes import FakeReplica, Handler, eventually
from tests.unit.lifecycle.house_lab import House
from tests.unit.lifecycle.rollouts.memory_store import MemoryStore

PRODUCTION, SHADOW, THIRD = "a" * 12, "b" * 12, "c" * 12
ENOUGH = 12
"""Requests that are copied at once: fewer than the bound on copies in flight."""


class Lab:
    """A production version that serves, its shadow beside, and the controller, as the gateway wires them."""

    def __init__(self, home: House) -> None:
        self.home, self.store = home, MemoryStore()
        self.open()

    def open(self) -> None:
        dispatcher = self.home.dispatcher
        self.shadows = Shadows(self.store, self.home.deployments, dispatcher.evidence, dispatcher.take_shadow_pairs)

    async def version(self, model_id: str, traffic: TrafficChoice = TrafficChoice.ALL, **facts: Any) -> None:
        model = await self.home.add(model_id, **facts)
        await self.home.deployments.start(model, traffic=traffic)
        await self.home.deployments.settled(model_id)

    async def begin(self, shadow: str = SHADOW, production: str = "", **options: Any) -> Rollout:
        return await self.shadows.begin(ShadowRequest("iris", production, shadow, **options))

    async def ask(self, count: int = ENOUGH) -> None:
        """Send requests; each must have production's answer."""
        for _ in range(count):
            answer = await self.home.dispatcher.predict(Call("iris", b"1", "here"))
            assert (answer.status, answer.headers["x-model-id"]) == (200, PRODUCTION)

    async def report(self) -> ShadowReport:
        return await self.shadows.report(await self.shadows.find("iris"))

    async def reported(self, compared: int) -> ShadowReport:
        """Wait until so many pairs are compared."""
        async with asyncio.timeout(20):
            while (report := await self.report()).agreement.compared < compared:
                await asyncio.sleep(0.02)
        return report

    @property
    def state(self) -> RolloutState | None:
        rollout = self.home.state.rollout("iris")
        return rollout.state if rollout is not None else None

    def replica(self, model_id: str) -> FakeReplica:
        return next(fake for fake in self.home.target.fakes.values() if fake.replica.model_id == model_id)


@asynccontextmanager
async def lab(folder: Path, *, beside: bool = True) -> AsyncIterator[Lab]:
    """beside: whether the shadow's version serves already, without requests."""
    home = House(folder)
    made = Lab(home)
    try:
        await made.version(PRODUCTION)
        if beside:
            await made.version(SHADOW, TrafficChoice.NONE)
        made.shadows.begin_comparing(loaded=None)
        yield made
    finally:
        await made.shadows.end()
        await home.monitor.end()
        await home.deployments.shut_down(keep_models=False)
        await home.dispatcher.close()


def answering(body: bytes, status: int = 200) -> Handler:
    async def handler(requests: list[Request]) -> list[Answer]:
        return [Answer(body, status)] * len(requests)

    return handler


async def test_a_shadow_is_compared_and_its_report_outlives_it(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin(production="1.0.0")
        assert rollout.state is RolloutState.RUNNING
        made.replica(SHADOW).handler = answering(b'{"predictions":["other"]}')
        made.replica(PRODUCTION).handler = answering(b'{"predictions":["one"]}')
        await made.ask()
        report = await made.reported(ENOUGH)
        assert (report.agreement.agreement, report.agreement.agreed) == (0.0, 0)
        assert (report.copies.sent, report.copies.answered, report.copies.dropped) == (ENOUGH, ENOUGH, 0)
        difference = report.agreement.disagreements[0].differences[0]
        assert (difference.path, difference.production, difference.shadow) == ("predictions[0]", "one", "other")
        assert report.agreement.shadow_latency.p50_ms is not None

        ended = await made.shadows.stop(rollout.id, "ann")
        assert (ended.state, ended.reason) == (RolloutState.DONE, "stopped by ann")
        assert await made.shadows.stop(rollout.id) == ended
        assert [event.what for event in await made.store.events(rollout.id)] == ["pending", "running", "done"]
        assert (await made.report()).agreement.compared == ENOUGH
        assert len((await made.report()).agreement.disagreements) == 10
        seen = len(made.replica(SHADOW).batches)
        await made.ask()
        assert len(made.replica(SHADOW).batches) == seen, "it gets no more copies"
        assert made.home.status(SHADOW) is Status.LIVE
        assert made.state is None


async def test_a_version_that_does_not_run_is_started_beside_production(tmp_path: Path) -> None:
    async with lab(tmp_path, beside=False) as made:
        await made.home.add(SHADOW)
        rollout = await made.begin()
        assert rollout.state is RolloutState.PENDING
        await eventually(lambda: made.state is RolloutState.RUNNING)
        await made.ask()
        assert (await made.reported(ENOUGH)).agreement.agreement == 1.0
        assert made.home.state.deployment(SHADOW).traffic is TrafficChoice.NONE


async def test_production_answers_while_its_shadow_hangs_and_what_is_held_is_bounded(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        await made.begin()
        release = asyncio.Event()

        async def hanging(requests: list[Request]) -> list[Answer]:
            await release.wait()
            return [Answer(b"{}")] * len(requests)

        made.replica(SHADOW).handler = hanging
        await made.ask(200)
        copies = (await made.report()).copies
        assert (copies.sent, copies.answered, copies.dropped) == (16, 0, 184)
        release.set()
        await made.reported(16)


async def test_answers_that_nobody_compares_are_dropped_and_counted(tmp_path: Path) -> None:
    """Nothing is compared here: the pairs wait within their bounds, and the others are counted."""
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        await made.shadows.end()
        body = b'{"predictions":["%s"]}' % (b"x" * (1 << 20))
        made.replica(PRODUCTION).handler = made.replica(SHADOW).handler = answering(body)
        for _ in range(14):
            await made.ask(1)
            await asyncio.sleep(0.05)
        await eventually(lambda: made.home.dispatcher.evidence("iris").dropped > 0)
        pairs = made.home.dispatcher.take_shadow_pairs("iris")
        assert 0 < sum(pair.size_bytes for pair in pairs) <= 8 << 20
        assert rollout.is_active


async def test_a_large_pair_is_compared_away_from_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    real = asyncio.to_thread

    async def counting(function: Any, *args: Any) -> Any:
        used.append(1)
        return await real(function, *args)

    monkeypatch.setattr(asyncio, "to_thread", counting)
    async with lab(tmp_path) as made:
        await made.begin()
        used.clear()
        await made.ask(2)
        await made.reported(2)
        assert not used
        made.replica(SHADOW).handler = answering(b'{"predictions":["%s"]}' % (b"x" * 10_000))
        await made.ask(2)
        await made.reported(4)
        assert len(used) == 2


async def test_a_shadow_survives_a_restart_of_the_gateway(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        await made.shadows.end()
        await made.home.deployments.shut_down(keep_models=True)
        await made.home.dispatcher.close()
        made.home.open()
        made.open()
        assert await made.shadows.load()
        await made.home.deployments.resume(registry_lost=False)
        made.shadows.begin_comparing(loaded=True)
        await eventually(lambda: made.home.state.route("iris") is not None)
        await made.ask()
        assert (await made.reported(ENOUGH)).copies.answered == ENOUGH
        assert (await made.shadows.stop(rollout.id)).state is RolloutState.DONE


async def test_a_shadow_ends_when_its_version_will_not_come_back(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        model = made.home.state.model(SHADOW)
        assert model is not None
        with pytest.raises(Conflict, match="active rollout") as refused:
            await made.home.deployments.stop(model)
        assert refused.value.hint == "Stop it first: `prism shadow stop iris`."
        await made.home.deployments.halt(model)
        await eventually(lambda: made.state is None)
        ended = await made.shadows.find("iris")
        assert (ended.id, ended.state, ended.reason) == (rollout.id, RolloutState.DONE, "1.1.0 was stopped")
        await made.ask()


async def test_what_makes_no_sense_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        await made.version(THIRD, TrafficChoice.NONE, side_effects=True)
        for shadow, production, error, said in (
            ("9.0.0", "", NotFound, "no version `9.0.0`"),
            (SHADOW, "9.0.0", NotFound, "no version `9.0.0`"),
            ("1.0.0", "", BadInput, "cannot be its own shadow"),
            ("1.0.0", "1.0.0", BadInput, "cannot be its own shadow"),
            (SHADOW, THIRD, Conflict, "does not answer the requests for `iris`: 1.0.0 does"),
            (THIRD, "", BadInput, "declared to have side effects"),
        ):
            with pytest.raises(error, match=said):
                await made.begin(shadow, production)
        with pytest.raises(NotFound, match="`iris` has no shadow"):
            await made.shadows.find("iris")
        with pytest.raises(NotFound, match="Did you mean `iris`"):
            await made.shadows.find("irs")
        with pytest.raises(NotFound, match="no rollout `nothing`"):
            await made.shadows.stop("nothing")
        made.store.away = True
        with pytest.raises(CatalogUnavailable):
            await made.begin()
        made.store.away = False
        assert made.state is None
        rollout = await made.begin()
        with pytest.raises(Conflict, match=rollout.id):
            await made.begin()


async def test_a_shadow_that_does_not_take_productions_requests_is_refused_unless_that_is_allowed(
    tmp_path: Path,
) -> None:
    def takes(name: str) -> Signature:
        return Signature("tensors", (Tensor(name, "FP64", (-1, 1)),), named=True)

    async with lab(tmp_path) as made:
        for model_id, name in ((PRODUCTION, "length"), (SHADOW, "width")):
            model = made.home.state.model(model_id)
            assert model is not None
            await made.home.state.record_findings(model_id, signature=takes(name))
        with pytest.raises(BadInput, match="input width: new"):
            await made.begin()
        assert (await made.begin(allow_signature_change=True)).state is RolloutState.RUNNING


async def test_a_shadow_whose_version_does_not_start_fails(tmp_path: Path) -> None:
    async with lab(tmp_path, beside=False) as made:
        await made.home.add(SHADOW)
        made.home.target.welcome = {"samples": []}
        rollout = await made.begin()
        await eventually(lambda: made.state is None)
        ended = await made.shadows.find("iris")
        assert (ended.id, ended.state) == (rollout.id, RolloutState.FAILED)
        assert ended.reason
        assert (await made.report()).agreement.compared == 0
        await made.ask()
