"""Experiments from their start to their end, in a whole gateway on a fake target."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.core.model import Status, TrafficChoice
from app.core.rollout.experiment import Outcome
from app.core.rollout.keys import Identity
from app.core.rollout.records import Rollout, RolloutState
from app.dispatch.request import Call
from app.errors import BadInput, CatalogUnavailable, Conflict, NotFound, PrismError, StartFailed
from app.lifecycle.rollouts import ab
from app.lifecycle.rollouts.ab import ExperimentRequest, Experiments, Report
from tests.fakes import eventually
from tests.unit.lifecycle.house_lab import House
from tests.unit.lifecycle.rollouts.memory_experiments import MemoryExperiments
from tests.unit.lifecycle.rollouts.memory_store import MemoryStore

FIRST, SECOND, THIRD = "a" * 12, "b" * 12, "c" * 12
HALVES = {"1.0.0": 50.0, "1.1.0": 50.0}
KEYS = [f"user-{number}" for number in range(120)]


class Lab:
    """Two versions that run, the second without requests, and the controller of their experiments."""

    def __init__(self, home: House) -> None:
        self.home, self.store, self.records = home, MemoryStore(), MemoryExperiments()
        self.open()

    def open(self) -> None:
        dispatcher = self.home.dispatcher
        self.experiments = Experiments(
            self.store, self.records, self.home.deployments, dispatcher.take_exposures, dispatcher.exposure
        )

    async def begin(self, variants: dict[str, float] = HALVES, **options: Any) -> Rollout:
        return await self.experiments.begin(ExperimentRequest("iris", variants, **options))

    async def arm(self, key: str, request_id: str = "") -> str:
        call = Call("iris", b"1", "here", request_id=request_id, identity=Identity(key))
        return (await self.home.dispatcher.predict(call)).headers["x-model-id"]

    async def arms(self) -> list[str]:
        return [await self.arm(key) for key in KEYS]

    async def events(self, rollout_id: str) -> list[str]:
        return [event.what for event in await self.store.events(rollout_id)]


@asynccontextmanager
async def lab(folder: Path) -> AsyncIterator[Lab]:
    home = House(folder)
    made = Lab(home)
    try:
        for model_id, traffic in ((FIRST, TrafficChoice.ALL), (SECOND, TrafficChoice.NONE)):
            model = await home.add(model_id)
            await home.deployments.start(model, traffic=traffic)
            await home.deployments.settled(model_id)
        yield made
    finally:
        await made.experiments.end()
        await home.monitor.end()
        await home.deployments.shut_down(keep_models=False)
        await home.dispatcher.close()


async def test_an_experiment_divides_callers_until_it_is_stopped_for_its_winner(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin()
        assert rollout.state is RolloutState.RUNNING
        met = await here.arms()
        assert min(Counter(met)[model_id] for model_id in (FIRST, SECOND)) > 35
        assert await here.arms() == met

        ended = await here.experiments.stop(rollout.id, "1.1.0", "ann")
        assert (ended.state, ended.reason) == (RolloutState.DONE, "stopped by ann; 1.1.0 gets all requests")
        assert set(await here.arms()) == {SECOND}
        assert here.home.state.deployment(FIRST).status is Status.STOPPED
        assert await here.events(rollout.id) == ["pending", "running", "promoted", "done"]
        assert await here.experiments.stop(rollout.id, "1.1.0") == ended
        with pytest.raises(Conflict, match="is done already: stopped by ann"):
            await here.experiments.stop(rollout.id, "1.0.0")
        again = await here.begin()
        assert again.arms[0].model_id == SECOND, "the version that answers now is the control"


async def test_without_a_winner_the_version_from_before_answers_again(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin({"1.0.0": 1, "1.1.0": 9})
        await here.experiments.stop(rollout.id)
        assert set(await here.arms()) == {FIRST}
        assert here.home.state.deployment(SECOND).status is Status.STOPPED


async def test_a_variant_that_does_not_run_is_started_first(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        await here.home.add(THIRD)
        rollout = await here.begin({"1.0.0": 50, "1.2.0": 50})
        assert rollout.state is RolloutState.PENDING
        await eventually(lambda: here.home.state.splits["iris"].key is not None)
        assert set(await here.arms()) == {FIRST, THIRD}


async def test_an_experiment_whose_variant_does_not_start_fails_and_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise StartFailed("It does not load.")

    async with lab(tmp_path) as here:
        await here.home.add(THIRD)
        monkeypatch.setattr(here.home.target, "start", refuse)
        rollout = await here.begin({"1.0.0": 50, "1.2.0": 50})
        await eventually(lambda: here.home.state.rollout("iris") is None)
        recorded = await here.store.get(rollout.id)
        assert recorded is not None
        assert recorded.state is RolloutState.FAILED
        assert recorded.reason == "1.2.0 does not start: It does not load."
        assert set(await here.arms()) == {FIRST}


async def test_callers_keep_their_arm_in_the_next_gateway(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin()
        met = await here.arms()
        await here.experiments.end()
        await here.home.deployments.shut_down(keep_models=True)
        await here.home.dispatcher.close()
        here.home.open()
        here.open()
        assert await here.experiments.load()
        await here.home.deployments.resume(registry_lost=False)
        here.experiments.begin_recording(loaded=True)
        await eventually(lambda: here.home.state.live_endpoint("iris") is not None)
        assert await here.arms() == met
        assert (await here.experiments.stop(rollout.id, "1.1.0")).state is RolloutState.DONE


async def test_a_stop_that_was_cut_short_is_finished_by_the_next_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin()
        recorded = here.store.change

        async def cut(changed: Rollout, event: Any) -> None:
            await recorded(changed, event)
            here.store.away = True

        here.store.change = cut  # type: ignore[method-assign]
        monkeypatch.setattr(ab, "READY_SECONDS", 0.1)
        assert (await here.experiments.stop(rollout.id, "1.1.0")).state is RolloutState.PROMOTED
        await here.experiments.end()
        here.store.away, here.store.change = False, recorded  # type: ignore[method-assign]
        here.open()
        assert await here.experiments.load()
        here.experiments.begin_recording(loaded=True)
        await eventually(lambda: here.home.state.rollout("iris") is None)
        assert (await here.events(rollout.id))[-2:] == ["promoted", "done"]
        assert set(await here.arms()) == {SECOND}


async def test_feedback_by_request_and_by_key_reaches_the_same_arm(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin()
        for key in KEYS[:20]:
            answered = await here.arm(key, f"request-{key}")
            by_request = await here.experiments.report(Report("sale", 1.0, request_id=f"request-{key}"))
            by_key = await here.experiments.report(Report("visits", 3.0, key=key))
            assert by_request.model_id == by_key.model_id == answered
            assert by_request.key == by_key.key != key
        await here.experiments.report(Report("sale", 1.0, request_id="request-user-0"))
        with pytest.raises(Conflict):
            await here.experiments.report(Report("sale", 2.0, request_id="request-user-0"))
        found = await here.experiments.results(rollout.id)
        assert sum(found.keys.values()) == 20
        assert sum(arm.keys for arm in found.metrics["sale"].arms.values()) == 20
        assert found.metrics["sale"].conclusion.outcome is Outcome.NO_WINNER


async def test_results_name_the_better_arm_and_use_what_was_before(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin()
        for number, key in enumerate(KEYS):
            lift = 40.0 if await here.arm(key) == SECOND else 0.0
            level = float(number * 10 % 500)
            await here.experiments.report(Report("basket", level, key=key, is_past=True))
            await here.experiments.report(Report("basket", level + lift + number % 3, key=key))
        found = (await here.experiments.results(rollout.id)).metrics["basket"]
        assert (found.conclusion.outcome, found.conclusion.winner) == (Outcome.WINNER, SECOND)
        assert found.adjusted
        assert found.conclusion.intervals[SECOND].low > 35
        lower = await here.experiments.results(rollout.id, lower_is_better=True)
        assert lower.metrics["basket"].conclusion.winner == FIRST

        here.records.feedback = [each for each in here.records.feedback if not each.is_past]
        without = (await here.experiments.results(rollout.id)).metrics["basket"]
        assert without.conclusion.outcome is Outcome.NO_WINNER, "the spread between callers hides it"


async def test_no_winner_is_shown_while_the_split_is_off(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin({"1.0.0": 90, "1.1.0": 10})
        lost = {f"lost-{number}": SECOND for number in range(300)}
        await here.records.meet(rollout.id, lost, "2026")
        for number, key in enumerate(KEYS):
            lift = 50.0 if await here.arm(key) == SECOND else 0.0
            await here.experiments.report(Report("basket", lift + number % 3, key=key))
        found = await here.experiments.results(rollout.id)
        assert found.conclusion.outcome is Outcome.SPLIT_OFF
        assert (found.metrics["basket"].conclusion.outcome, found.metrics["basket"].conclusion.winner) == (
            Outcome.SPLIT_OFF,
            "",
        )


async def test_keys_wait_for_a_database_that_is_away(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin()
        here.records.away = True
        await here.arm("ann")
        with pytest.raises(CatalogUnavailable):
            await here.experiments.results(rollout.id)
        await here.arm("bob")
        here.records.away = False
        assert sum((await here.experiments.results(rollout.id)).keys.values()) == 2


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (ExperimentRequest("iris", {"1.0.0": 1}), BadInput, "2 to 20 variants; 1 was given"),
        (ExperimentRequest("iris", {"1.0.0": 1, "1.1.0": 0}), BadInput, "weight of 1.1.0 must be above 0; it was 0"),
        (ExperimentRequest("iris", {"1.0.0": 1, "1.1.0": float("nan")}), BadInput, "it was nan"),
        (ExperimentRequest("iris", {"1.0.0": 1, "iris@1.0.0": 1}), BadInput, "occurs twice"),
        (ExperimentRequest("iris", {"1.0.0": 1, "1.1.1": 1}), NotFound, "no version `1.1.1`"),
        (ExperimentRequest("irs", HALVES), NotFound, "no model `irs`"),
        (ExperimentRequest("iris", HALVES, "cookie:user"), BadInput, "`cookie:user` does not say"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    tmp_path: Path, request_: ExperimentRequest, error: type[PrismError], said: str
) -> None:
    async with lab(tmp_path) as here:
        with pytest.raises(error, match=said):
            await here.experiments.begin(request_)
        assert here.home.state.rollout("iris") is None
        assert await here.store.active() == ()


async def test_a_name_has_one_rollout_and_its_versions_are_not_stopped(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        rollout = await here.begin()
        with pytest.raises(Conflict, match=f"experiment {rollout.id}, running") as second:
            await here.begin()
        assert second.value.hint == "Stop it first: `prism ab stop iris`."
        model = here.home.state.model(SECOND)
        assert model is not None
        with pytest.raises(Conflict, match="is in an active rollout"):
            await here.home.deployments.stop(model)
        await here.home.add(THIRD)
        with pytest.raises(BadInput, match="is no variant"):
            await here.experiments.stop(rollout.id, "1.2.0")


@pytest.mark.parametrize(
    ("report", "error", "said"),
    [
        (Report("sale", 1.0), BadInput, "needs a `request_id` or a `key`"),
        (Report("sale", 1.0, request_id="q9"), NotFound, "request `q9` is not known"),
        (Report("sale", 1.0, key="ann", name="irs"), NotFound, "No experiment of `irs` is running"),
        (Report("sale", float("inf"), key="ann"), BadInput, "not a finite number"),
    ],
)
async def test_feedback_about_nothing_is_refused(
    tmp_path: Path, report: Report, error: type[PrismError], said: str
) -> None:
    async with lab(tmp_path) as here:
        await here.begin()
        with pytest.raises(error, match=said):
            await here.experiments.report(report)
        assert here.records.feedback == []
