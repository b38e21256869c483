from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from app.core.model import ModelVersion, Status, TrafficChoice
from app.core.rollout.records import FINISHED, CanaryPolicy, Evidence, RolloutState
from app.core.route import Route
from app.core.signature import Signature, Tensor
from app.errors import BadInput, CatalogUnavailable, Conflict, NotFound, StartFailed
from app.lifecycle.deployments import Deployments
from app.lifecycle.rollouts.checks import CanaryRequest
from app.lifecycle.rollouts.transitions import Transitions
from app.lifecycle.versions import version_to_restore
from tests.fakes import eventually
from tests.unit.lifecycle.rollouts.canaries_lab import CANDIDATE, STABLE, THIRD, Lab, lab


async def test_a_canary_gets_its_share_and_goes_back_when_its_answers_are_bad(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        assert rollout.state is RolloutState.RUNNING
        assert abs((await made.answering())[CANDIDATE] - 10) <= 3
        made.count(4, bad=4)
        made.now += 1.3
        made.canaries.judge()
        assert (await made.canaries.get(rollout.id)).state is RolloutState.ROLLED_BACK, "before anything is waited for"
        assert await made.answering() == {STABLE: 40}
        ended = await made.reached(rollout.id, RolloutState.ROLLED_BACK)
        assert ended.reason.startswith("4 of 4 answers were 500 while 1.0.0 answered the same requests; limit 2 %")
        await eventually(lambda: made.home.status(CANDIDATE) is Status.STOPPED)
        await eventually(lambda: made.home.state.rollout("iris") is None)
        assert await made.events(rollout.id) == ["pending", "step", "rolled_back"]
        assert await made.store.get(rollout.id) == ended
        assert await made.answering() == {STABLE: 40}


async def test_a_good_canary_goes_through_its_steps_and_the_stable_version_stops_when_it_was_warm(
    tmp_path: Path,
) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin(steps=[25, 100], warm_seconds=600)
        made.count(149)
        made.now += 31
        made.canaries.judge()
        await made.in_step(rollout.id, 1)
        assert made.home.state.splits["iris"].weight(CANDIDATE) == 1.0
        assert await made.answering() == {CANDIDATE: 40}
        made.count(300)
        made.now += 31
        await made.judge(rollout.id, RolloutState.PROMOTED)
        assert made.home.status(STABLE) is Status.LIVE
        assert made.home.state.deployment(STABLE).traffic is TrafficChoice.NONE
        assert made.home.state.deployment(CANDIDATE).traffic is TrafficChoice.ALL
        made.now += 601
        await made.judge(rollout.id, RolloutState.DONE)
        assert made.home.status(STABLE) is Status.STOPPED
        assert await made.answering() == {CANDIDATE: 40}
        assert await made.events(rollout.id) == ["pending", "step", "step", "promoted", "done"]


async def test_after_a_promotion_the_stable_version_takes_over_again_without_a_build(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        assert (await made.canaries.promote(rollout.id)).state is RolloutState.PROMOTED
        assert await made.answering() == {CANDIDATE: 40}
        starts = made.home.target.events.count("start")
        assert (await made.canaries.roll_back(rollout.id, "ann")).reason == "rolled back by ann"
        assert await made.answering() == {STABLE: 40}
        assert made.home.target.events.count("start") == starts
        await eventually(lambda: made.home.status(CANDIDATE) is Status.STOPPED)
        assert made.home.state.deployment(STABLE).traffic is TrafficChoice.ALL


async def test_repeated_commands_answer_the_same_document(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        paused = await made.canaries.pause(rollout.id)
        assert await made.canaries.pause(rollout.id) == paused
        await made.canaries.resume(rollout.id)
        promoted = await made.canaries.promote(rollout.id)
        assert await made.canaries.promote(rollout.id) == promoted
        back = await made.canaries.roll_back(rollout.id)
        assert await made.canaries.roll_back(rollout.id) == back
        await eventually(lambda: made.home.state.rollout("iris") is None)
        assert await made.canaries.roll_back(rollout.id) == back
        with pytest.raises(Conflict, match="is rolled back, so it cannot be promoted"):
            await made.canaries.promote(rollout.id)


async def test_without_the_database_a_canary_is_rolled_back_and_the_record_follows(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        made.store.away = True
        made.count(149)
        made.now += 31
        made.canaries.judge()
        await asyncio.sleep(0)
        assert (await made.canaries.get(rollout.id)).state is RolloutState.RUNNING
        with pytest.raises(CatalogUnavailable):
            await made.canaries.promote(rollout.id)
        assert abs((await made.answering())[CANDIDATE] - 10) <= 3
        made.count(160, bad=11)
        await made.judge(rollout.id, RolloutState.ROLLED_BACK)
        assert await made.answering() == {STABLE: 40}
        await eventually(lambda: made.home.status(CANDIDATE) is Status.STOPPED)
        made.store.away = False
        recorded = await made.store.get(rollout.id)
        assert recorded is not None
        assert recorded.state is RolloutState.RUNNING
        await eventually(lambda: made.canaries.state_of(rollout.id) is None)
        assert (await made.canaries.get(rollout.id)).state is RolloutState.ROLLED_BACK
        assert await made.events(rollout.id) == ["pending", "step", "rolled_back"]


async def test_a_candidate_that_is_not_started_is_made_ready_first(tmp_path: Path) -> None:
    async with lab(tmp_path, beside=False) as made:
        await made.home.add(CANDIDATE)
        rollout = await made.begin("1.1.0")
        assert rollout.state is RolloutState.PENDING
        await made.reached(rollout.id, RolloutState.RUNNING)
        assert abs((await made.answering())[CANDIDATE] - 10) <= 3
        assert made.home.status(STABLE) is Status.LIVE


async def test_a_candidate_that_does_not_start_fails_and_no_request_goes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise StartFailed("It does not load.")

    async with lab(tmp_path, beside=False) as made:
        await made.home.add(CANDIDATE)
        monkeypatch.setattr(made.home.target, "start", refuse)
        rollout = await made.begin()
        ended = await made.reached(rollout.id, RolloutState.FAILED)
        assert "It does not load." in ended.reason
        assert await made.answering() == {STABLE: 40}
        assert made.home.state.rollout("iris") is None


async def test_a_pending_canary_can_be_rolled_back(tmp_path: Path) -> None:
    async with lab(tmp_path, beside=False) as made:
        await made.home.add(CANDIDATE)
        rollout = await made.begin()
        ended = await made.canaries.roll_back(rollout.id)
        assert ended.state is RolloutState.ROLLED_BACK
        await eventually(lambda: made.canaries.state_of(rollout.id) is None)
        assert await made.answering() == {STABLE: 40}
        assert not made.home.state.deployment(CANDIDATE).wanted


async def gateway_killed(made: Lab) -> None:
    """End the gateway without a goodbye, and start another one on what it left."""
    await made.canaries.end()
    await made.home.monitor.end()
    await made.home.deployments.shut_down(keep_models=True)
    await made.home.dispatcher.close()
    made.home.open()
    made.open()
    loaded = await made.canaries.load()
    await made.home.deployments.resume(registry_lost=False)
    made.at_first = made.home.state.splits.get("iris")
    if loaded:
        await made.canaries.resume_all()


async def test_a_restarted_gateway_goes_on_at_the_same_step(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        await gateway_killed(made)
        assert made.at_first is not None
        assert made.at_first.weight(CANDIDATE) == 0.25, "from its first request on"
        assert await made.canaries.get(rollout.id) == rollout
        assert abs((await made.answering())[CANDIDATE] - 10) <= 3
        made.count(4, bad=4)
        await made.judge(rollout.id, RolloutState.ROLLED_BACK)
        assert await made.answering() == {STABLE: 40}


async def test_a_restarted_gateway_keeps_a_promotion_and_its_warm_time(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin(warm_seconds=600)
        await made.canaries.promote(rollout.id)
        made.store.back_dated(rollout.id, "2026-01-01T00:00:00.000000Z")
        await gateway_killed(made)
        assert await made.answering() == {CANDIDATE: 40}
        await made.judge(rollout.id, RolloutState.DONE)
        assert made.home.status(STABLE) is Status.STOPPED


async def test_a_gateway_killed_between_the_record_of_a_promotion_and_the_traffic_promotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    async with lab(tmp_path) as made:
        rollout = await made.begin()
        monkeypatch.setattr(Transitions, "publish", killed)
        with pytest.raises(asyncio.CancelledError):
            await made.canaries.promote(rollout.id)
        assert (await made.answering())[STABLE]
        monkeypatch.undo()
        await gateway_killed(made)
        assert await made.answering() == {CANDIDATE: 40}
        assert made.home.state.deployment(CANDIDATE).traffic is TrafficChoice.ALL


async def test_a_gateway_killed_before_the_candidate_of_a_rollback_was_stopped_gives_it_nothing_and_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    async with lab(tmp_path) as made:
        rollout = await made.begin()
        monkeypatch.setattr(Deployments, "halt", killed)
        await made.canaries.roll_back(rollout.id)
        assert made.home.status(CANDIDATE) is Status.LIVE
        monkeypatch.undo()
        await gateway_killed(made)
        assert await made.answering() == {STABLE: 40}
        await eventually(lambda: made.home.status(CANDIDATE) is Status.STOPPED)


async def test_a_gateway_that_starts_without_the_database_sends_everything_to_the_stable_version(
    tmp_path: Path,
) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        made.store.away = True
        await gateway_killed(made)
        assert await made.answering() == {STABLE: 40}
        made.store.away = False
        assert await made.canaries.load()
        await made.canaries.resume_all()
        assert (await made.canaries.get(rollout.id)).state is RolloutState.RUNNING
        assert abs((await made.answering())[CANDIDATE] - 10) <= 3


async def test_a_second_rollout_of_a_name_is_refused_and_names_the_first(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        with pytest.raises(Conflict, match=rollout.id) as refused:
            await made.begin()
        assert "prism canary promote iris" in refused.value.hint


@pytest.mark.parametrize(("name", "candidate", "said"), [("irs", "1.1.0", "iris"), ("iris", "1.1.1", "1.1.0")])
async def test_an_unknown_name_or_version_is_answered_with_the_nearest(
    tmp_path: Path, name: str, candidate: str, said: str
) -> None:
    async with lab(tmp_path) as made:
        with pytest.raises(NotFound) as refused:
            await made.canaries.begin(CanaryRequest(name, candidate, CanaryPolicy()))
        assert f"Did you mean `{said}`?" in refused.value.hint


async def test_a_candidate_that_is_the_stable_version_is_refused(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        with pytest.raises(BadInput, match="cannot be its own candidate"):
            await made.begin(STABLE)


async def test_without_a_live_version_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    async with lab(tmp_path, beside=False) as made:
        await made.home.add(CANDIDATE)
        await made.home.deployments.stop(made.home.state.find(STABLE))
        with pytest.raises(Conflict, match="No version of `iris` is live") as refused:
            await made.begin()
        assert "prism models start iris@" in refused.value.hint


async def test_a_signature_that_callers_would_break_on_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    before = Signature("table", (Tensor("age", "FP64", (-1,)),), named=True)
    after = structs.replace(before, inputs=(*before.inputs, Tensor("city", "BYTES", (-1,))))
    async with lab(tmp_path) as made:
        await made.home.state.record_findings(STABLE, signature=before)
        await made.home.state.record_findings(CANDIDATE, signature=after)
        request = CanaryRequest("iris", CANDIDATE, CanaryPolicy())
        with pytest.raises(BadInput, match="input city: new, and needed"):
            await made.canaries.begin(request)
        assert await made.store.list() == ()
        allowed = await made.canaries.begin(structs.replace(request, allow_signature_change=True))
        assert allowed.state is RolloutState.RUNNING


@pytest.mark.parametrize("model_id", [STABLE, CANDIDATE])
async def test_a_version_in_a_rollout_is_neither_stopped_nor_deleted(tmp_path: Path, model_id: str) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        model = made.home.state.find(model_id)
        with pytest.raises(Conflict, match=rollout.id):
            await made.home.deployments.stop(model)
        with pytest.raises(Conflict, match=rollout.id):
            await made.home.deployments.delete(model)
        assert made.home.status(model_id) is Status.LIVE
        await made.canaries.roll_back(rollout.id)
        await eventually(lambda: made.canaries.state_of(rollout.id) is None)
        await made.home.deployments.delete(model)


async def test_the_version_before_a_promoted_one_can_be_stopped_which_ends_the_rollout(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        await made.canaries.promote(rollout.id)
        await made.home.deployments.stop(made.home.state.find(STABLE))
        assert (await made.judge(rollout.id, RolloutState.DONE)).reason == "1.0.0 was stopped"
        assert await made.answering() == {CANDIDATE: 40}


async def test_a_candidate_is_not_given_everything_by_a_start(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        await made.begin()
        with pytest.raises(Conflict) as refused:
            await made.home.deployments.start(made.home.state.find(CANDIDATE))
        assert "prism canary promote iris" in refused.value.hint


async def test_a_third_version_that_becomes_live_does_not_disturb_a_canary(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        third = await made.home.add(THIRD)
        rollout = await made.begin()
        await made.home.state.update(THIRD, wanted=True, traffic=TrafficChoice.ALL)
        await made.home.deployments.pipeline.deploy_version(third, run=True)
        counts = await made.answering()
        assert set(counts) == {STABLE, CANDIDATE}
        assert [made.home.status(model_id) for model_id in (STABLE, CANDIDATE, THIRD)] == [Status.LIVE] * 3
        made.count(4, bad=4)
        await made.judge(rollout.id, RolloutState.ROLLED_BACK)
        await eventually(lambda: made.canaries.state_of(rollout.id) is None)
        assert await made.answering() == {STABLE: 40}
        await made.begin()
        with pytest.raises(Conflict, match="active rollout"):
            await made.home.deployments.start(third)


async def test_a_model_of_another_name_that_stops_both_versions_ends_the_canary(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        await made.home.live(THIRD, "other")
        await made.judge(rollout.id, RolloutState.ROLLED_BACK)
        await eventually(lambda: made.home.state.rollout("iris") is None)


async def test_the_late_end_of_one_rollout_leaves_the_next_one_of_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_stop, halt = asyncio.Event(), Deployments.halt

    async def slowly(deployments: Deployments, model: ModelVersion) -> None:
        await may_stop.wait()
        await halt(deployments, model)

    async with lab(tmp_path) as made:
        await made.version(THIRD, TrafficChoice.NONE)
        first = await made.begin()
        monkeypatch.setattr(Deployments, "halt", slowly)
        await made.canaries.roll_back(first.id)
        second = await made.begin(THIRD)
        may_stop.set()
        await eventually(lambda: made.canaries.state_of(first.id) is None)
        held = made.home.state.rollout("iris")
        assert held is not None
        assert held.id == second.id
        assert set(await made.answering()) == {STABLE, THIRD}


async def test_an_unknown_rollout_is_named(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        with pytest.raises(NotFound, match="no rollout `nothing`"):
            await made.canaries.promote("nothing")


async def test_a_rollback_outranks_a_step_that_is_being_recorded(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin(steps=[25, 50])
        made.count(149)
        made.now += 31
        recording, may_record = asyncio.Event(), asyncio.Event()
        record = made.store.change

        async def slowly(*change: object) -> None:
            recording.set()
            await may_record.wait()
            await record(*change)  # type: ignore[arg-type]

        made.store.change = slowly  # type: ignore[method-assign]
        made.canaries.judge()
        await recording.wait()
        shares, shift = [], made.home.dispatcher.shift_traffic

        def noted(name: str, route: Route) -> None:
            shares.append(route.weight(CANDIDATE))
            shift(name, route)

        made.home.dispatcher.shift_traffic = noted  # type: ignore[method-assign]
        made.count(160, bad=11)
        made.canaries.judge()
        assert await made.answering() == {STABLE: 40}
        made.store.change = record  # type: ignore[method-assign]
        may_record.set()
        await made.reached(rollout.id, RolloutState.ROLLED_BACK)
        await eventually(lambda: made.canaries.state_of(rollout.id) is None)
        assert await made.answering() == {STABLE: 40}
        assert shares == [0.0], "the step gave the candidate nothing once it was recorded"
        recorded = await made.store.get(rollout.id)
        assert recorded is not None
        assert recorded.state in FINISHED
        assert recorded.reason.startswith("11 of ")


@pytest.mark.parametrize("promoted", [False, True])
async def test_a_version_that_was_rolled_back_is_not_the_one_before_the_current_one(
    tmp_path: Path, promoted: bool
) -> None:
    async with lab(tmp_path) as made:
        bad = await made.begin()
        if promoted:
            await made.canaries.promote(bad.id)
        await made.canaries.roll_back(bad.id)
        await eventually(lambda: made.canaries.state_of(bad.id) is None)
        await made.home.add(THIRD)
        good = await made.begin(THIRD)
        await made.reached(good.id, RolloutState.RUNNING)
        await made.canaries.promote(good.id)
        made.now += 601
        await made.judge(good.id, RolloutState.DONE)
        assert await made.answering() == {THIRD: 40}
        assert version_to_restore("iris", "", made.home.state).model_id == STABLE


async def test_a_version_that_only_ran_beside_another_is_not_the_one_before_a_later_one(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        third = await made.home.add(THIRD)
        await made.home.deployments.start(third)
        await made.home.deployments.settled(THIRD)
        assert await made.answering() == {THIRD: 40}
        assert version_to_restore("iris", "", made.home.state).model_id == STABLE


class Unreadable(dict[str, Evidence]):
    def get(self, *_: object) -> Evidence:  # type: ignore[override]
        raise ZeroDivisionError


async def test_evidence_that_cannot_be_read_passes_no_step_and_ends_no_watch(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        first = await made.begin(steps=[25, 100])
        made.counted = Unreadable()
        made.now += 3600
        made.canaries.judge()
        assert (await made.canaries.get(first.id)).step == 0
        made.counted = {}
        made.count(4, bad=4)
        await made.judge(first.id, RolloutState.ROLLED_BACK)


async def test_a_bad_candidate_is_not_rolled_back_onto_a_stable_version_that_is_down(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        (replica,) = made.home.state.deployment(STABLE).replicas
        stable = made.home.state.find(STABLE)
        publisher = made.home.deployments.pipeline.publisher
        await made.home.target.stop(replica, grace_seconds=0)
        await publisher.lose(stable, replica, "it was killed", by_itself=False, coming=False)
        made.count(9, bad=9)
        made.canaries.judge()
        assert (await made.canaries.get(rollout.id)).state is RolloutState.RUNNING
        assert await made.answering() == {CANDIDATE: 40}, "somebody answers"
        with pytest.raises(Conflict, match="does not serve"):
            await made.canaries.roll_back(rollout.id)
        await made.home.deployments.start(stable)
        await made.home.deployments.settled(STABLE)
        await made.judge(rollout.id, RolloutState.ROLLED_BACK)
        assert await made.answering() == {STABLE: 40}
