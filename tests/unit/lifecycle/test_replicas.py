"""Several replicas of a model: how they start, are replaced one by one, grow, shrink and are found again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.core.acceleration import AccelerationStatus
from app.core.model import ModelVersion, Replica, Status, VariantName
from app.errors import BadInput, StartFailed
from app.lifecycle.start import STARTS_AT_A_TIME, StartedReplica
from app.runtime.target import ReplicaState
from model_container.contract.frames import FORM_PROBLEM, Answer, Request
from tests.fakes import eventually
from tests.unit.lifecycle.acceleration.converter_lab import SKLEARN, converts
from tests.unit.lifecycle.house_lab import House, house, house_again
from tests.unit.lifecycle.replicas_lab import ID, numbers, replicas, with_replicas


def served(home: House) -> set[str]:
    """Ids of the replicas that take traffic."""
    return {line.replica.id for lane in home.dispatcher.lanes for line in lane.replicas}


def refuse_from(home: House, allowed: int) -> None:
    """No replica starts any more once so many have."""
    start = home.target.start

    async def limited(*arguments: Any) -> Replica:
        if home.target.events.count("start") >= allowed:
            raise StartFailed("no room for another")
        return await start(*arguments)

    home.target.start = limited  # type: ignore[method-assign]


async def gone(home: House, replica: Replica, detail: str = "killed by signal 9") -> None:
    """It ended, as the system sees it, and the monitor looks."""
    home.target.states[replica.id] = ReplicaState(False, detail=detail)
    await home.monitor.cycle()


async def test_all_replicas_take_traffic_and_each_has_a_number(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await with_replicas(home, 3)
        deployment = home.state.deployment(ID)
        assert (deployment.status, deployment.error) == (Status.LIVE, None)
        assert numbers(home) == [1, 2, 3]
        assert served(home) == {one.id for one in replicas(home)} == set(home.target.fakes)
        for _ in range(3):
            assert await home.predict("iris") == 200
        assert [fake.batches for fake in home.target.fakes.values()] == [[1, 1]] * 3, "the probe, then one each"


async def test_no_more_than_a_few_load_at_a_time(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        begin, loading, most = home.deployments.pipeline.starter.begin, 0, 0

        async def counted(model: ModelVersion, number: int = 1) -> StartedReplica:
            nonlocal loading, most
            loading += 1
            most = max(most, loading)
            await asyncio.sleep(0)
            begun = await begin(model, number)
            loading -= 1
            return begun

        home.deployments.pipeline.starter.begin = counted  # type: ignore[method-assign, assignment]
        await with_replicas(home, 2 * STARTS_AT_A_TIME)
        assert len(numbers(home)) == 2 * STARTS_AT_A_TIME
        assert most == STARTS_AT_A_TIME


async def test_a_model_goes_live_with_the_replicas_that_start_and_the_monitor_adds_the_rest(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        start = home.target.start
        refuse_from(home, 2)
        await with_replicas(home, 3)
        deployment = home.state.deployment(ID)
        assert (deployment.status, numbers(home)) == (Status.LIVE, [1, 2])
        assert deployment.error is not None
        assert deployment.error["detail"].startswith("2 of 3 replicas serve: no room for another")
        assert "status" not in deployment.error, "nobody's request failed"
        home.target.start = start  # type: ignore[method-assign]
        await home.monitor.cycle()
        assert home.monitor.restarting == (ID,)
        assert numbers(home) == [1, 2], "after the first pause"
        await home.monitor.end()


async def test_a_model_fails_if_none_of_the_first_replicas_starts(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        tried = 0

        async def never(*_: object) -> Replica:
            nonlocal tried
            tried += 1
            raise StartFailed("it cannot be loaded")

        home.target.start = never  # type: ignore[method-assign, assignment]
        await with_replicas(home, 20)
        deployment = home.state.deployment(ID)
        assert (deployment.status, deployment.replicas) == (Status.FAILED, ())
        assert tried == STARTS_AT_A_TIME


async def test_a_replica_that_does_not_answer_the_sample_never_takes_traffic(tmp_path: Path) -> None:
    async def refuses(requests: list[Request]) -> list[Answer]:
        return [Answer(b'{"detail":"no weights"}', 500, FORM_PROBLEM) for _ in requests]

    async with house(tmp_path) as home:
        start = home.target.start

        async def second_is_sick(*arguments: Any) -> Replica:
            replica = await start(*arguments)
            if home.target.events.count("start") == 2:
                home.target.fakes[replica.id].handler = refuses
            return replica

        home.target.start = second_is_sick  # type: ignore[method-assign]
        await with_replicas(home, 3)
        error = home.state.deployment(ID).error
        assert error is not None
        assert "no weights" in error["detail"]
        assert len(numbers(home)) == 2
        assert set(home.target.fakes) == {one.id for one in replicas(home)}, "it was stopped"


async def test_a_lost_replica_is_replaced_while_the_others_serve(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await with_replicas(home, 3)
        first, lost, third = replicas(home)
        await gone(home, lost)
        assert home.status(ID) is Status.LIVE
        assert lost.id not in served(home)
        await eventually(lambda: numbers(home) == [1, 2, 3])
        after = replicas(home)
        assert (after[0], after[2]) == (first, third), "these went on"
        assert after[1].id != lost.id
        assert lost.id not in home.target.fakes
        deployment = home.state.deployment(ID)
        assert deployment.error is None
        assert [restart.reason for restart in deployment.restarts] == ["killed by signal 9"]


async def test_each_replica_has_a_backoff_of_its_own(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await with_replicas(home, 2)
        await gone(home, replicas(home)[0])
        await eventually(lambda: numbers(home) == [1, 2] and not home.monitor.restarting)
        await gone(home, replicas(home)[0])
        assert numbers(home) == [2], "the second restart of the same one waits"
        error = home.state.deployment(ID).error
        assert error is not None
        assert error["detail"].startswith("1 of 2 replicas serve")
        starts = home.target.events.count("start")
        await gone(home, replicas(home)[0])
        await eventually(lambda: home.status(ID) is Status.LIVE)
        assert home.target.events.count("start") == starts + 1, "the first restart of the other one does not"
        assert len(numbers(home)) == 1


async def test_a_model_without_replicas_is_unhealthy_until_one_is_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await with_replicas(home, 2)
        for replica in replicas(home):
            home.target.states[replica.id] = ReplicaState(False, detail="gone")
        statuses = []
        update = home.state.record

        async def noted(deployment: Any) -> None:
            statuses.append((deployment.status, len(deployment.replicas)))
            await update(deployment)

        home.state.record = noted  # type: ignore[method-assign]
        await home.monitor.cycle()
        await eventually(lambda: numbers(home) == [1, 2] and not home.monitor.restarting)
        assert statuses[:2] == [(Status.LIVE, 1), (Status.UNHEALTHY, 0)]
        assert home.status(ID) is Status.LIVE
        assert await home.predict("iris") == 200


async def test_a_restart_replaces_one_after_another(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 3)
        before = {one.id for one in replicas(home)}
        fewest, done = 3, len(home.target.events)
        stop = home.target.stop

        async def counted(replica: Replica, grace_seconds: float) -> None:
            nonlocal fewest
            fewest = min(fewest, len(served(home)))
            await stop(replica, grace_seconds)

        home.target.stop = counted  # type: ignore[method-assign]
        await home.deployments.restart(model)
        await home.deployments.settled(ID)
        assert home.target.events[done:] == ["start", "stop"] * 3
        assert fewest == 3, "as many served all the while"
        assert not before & {one.id for one in replicas(home)}
        assert numbers(home) == [1, 2, 3]


async def test_a_failed_restart_keeps_the_number_of_replicas(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 3)
        refuse_from(home, 4)
        await home.deployments.restart(model)
        after = await home.deployments.settled(ID)
        assert (after.status, len(after.replicas)) == (Status.LIVE, 3)
        assert after.error is not None
        assert "no room" in after.error["detail"]
        assert await home.predict("iris") == 200


async def test_scaling_adds_replicas_one_by_one_and_removes_the_last(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 1)
        (first,) = replicas(home)
        await home.deployments.scale(model, 4)
        await home.deployments.settled(ID)
        assert numbers(home) == [1, 2, 3, 4]
        await home.deployments.scale(model, 2)
        await home.deployments.settled(ID)
        assert numbers(home) == [1, 2]
        assert replicas(home)[0] == first
        assert set(home.target.fakes) == {one.id for one in replicas(home)} == served(home)
        assert home.state.find(ID).spec.replicas == 2


@pytest.mark.parametrize("number", [0, -1, 65])
async def test_a_number_out_of_bounds_changes_nothing(tmp_path: Path, number: int) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 1)
        with pytest.raises(BadInput, match="1 to 64"):
            await home.deployments.scale(model, number)
        assert home.state.find(ID).spec.replicas == 1


async def test_scaling_during_a_start_takes_effect_once_the_model_is_live(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await home.add(ID)
        await home.deployments.start(model)
        await home.deployments.scale(model, 3)
        await home.deployments.settled(ID)
        assert numbers(home) == [1, 2, 3]


async def test_scaling_a_stopped_model_takes_effect_at_its_next_start(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 1)
        await home.deployments.stop(model)
        await home.deployments.scale(model, 2)
        await home.deployments.settled(ID)
        assert home.target.fakes == {}
        await home.deployments.start(home.state.find(ID))
        await home.deployments.settled(ID)
        assert numbers(home) == [1, 2]


async def test_stopping_during_scaling_leaves_no_replica(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 1)
        await home.deployments.scale(model, 8)
        await eventually(lambda: len(home.target.fakes) > 1)
        await home.deployments.stop(model)
        assert (home.target.fakes, home.status(ID)) == ({}, Status.STOPPED)


async def test_deletion_lists_and_removes_all_replicas(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 3)
        ids = [one.id for one in replicas(home)]
        told = await home.deployments.delete(model)
        assert all(f"process {id}" in told for id in ids)
        assert home.target.fakes == {}


async def test_the_next_gateway_adopts_all_that_run_and_starts_what_is_missing(tmp_path: Path) -> None:
    home = House(tmp_path)
    await with_replicas(home, 3)
    before = replicas(home)
    await home.dispatcher.close()  # killed: nothing else is put in order
    lost = home.target.fakes.pop(before[1].id)
    await lost.die()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert home.status(ID) is Status.LIVE
        assert {before[0].id, before[2].id} <= served(home)
        await home.deployments.settled(ID)
        assert numbers(home) == [1, 2, 3]
        assert (replicas(home)[0], replicas(home)[2]) == (before[0], before[2])


async def test_surplus_and_unrecorded_replicas_are_stopped_at_the_next_start(tmp_path: Path) -> None:
    home = House(tmp_path)
    model = await with_replicas(home, 3)
    kept = replicas(home)[:2]
    await home.state.record_spec(ID, replicas=2)  # killed before the third was taken out
    stray = await home.target.start(model, tmp_path, home.settings.limits)  # and before this one was recorded
    await home.dispatcher.close()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert replicas(home) == kept
        assert set(home.target.fakes) == {one.id for one in kept}
        assert stray.id not in home.target.fakes


async def test_a_lost_registry_is_rebuilt_from_all_running_replicas(tmp_path: Path) -> None:
    home = House(tmp_path)
    await with_replicas(home, 3)
    before = {one.id for one in replicas(home)}
    await home.dispatcher.close()
    home.settings.registry_path.write_text("{")
    async with house_again(home):
        await home.deployments.resume(registry_lost=True)
        assert {one.id for one in replicas(home)} == before
        assert numbers(home) == [1, 2, 3]
        assert home.target.events.count("start") == 3


async def test_a_faster_variant_replaces_every_replica(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        await with_replicas(home, 3, inspection=SKLEARN)
        busy = home.deployments.acceleration.busy
        await eventually(lambda: home.state.find(ID).findings.acceleration.status is AccelerationStatus.ACCELERATED)
        await eventually(lambda: not busy(ID))
        assert [one.variant for one in replicas(home)] == [VariantName.ACCELERATED] * 3
        assert set(home.target.fakes) == {one.id for one in replicas(home)} == served(home)


async def test_a_faster_variant_that_starts_only_once_is_reverted(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        start, faster = home.target.start, 0

        async def once(*arguments: Any) -> Replica:
            nonlocal faster
            variant = (arguments[3] if len(arguments) > 3 else None) or arguments[0].variant
            faster += variant.name is VariantName.ACCELERATED
            if faster > 1 and variant.name is VariantName.ACCELERATED:
                raise StartFailed("no room for another")
            return await start(*arguments)

        home.target.start = once  # type: ignore[method-assign]
        await with_replicas(home, 3, inspection=SKLEARN)
        await eventually(lambda: home.state.find(ID).findings.acceleration.status is AccelerationStatus.KEPT)
        await eventually(lambda: not home.deployments.acceleration.busy(ID))
        assert "no room" in home.state.find(ID).findings.acceleration.reason
        assert [one.variant for one in replicas(home)] == [VariantName.ORIGINAL] * 3
        assert set(home.target.fakes) == {one.id for one in replicas(home)}
        assert await home.predict("iris") == 200


async def test_a_new_version_takes_over_with_all_its_replicas_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await with_replicas(home, 2)
        seen = []
        publish = home.dispatcher.publish

        async def noted(table: Any) -> None:
            await publish(table)
            seen.append(len(served(home)))

        home.dispatcher.publish = noted  # type: ignore[method-assign]
        await with_replicas(home, 3, "b" * 12)
        assert served(home) == {one.id for one in replicas(home, "b" * 12)}
        assert set(seen) <= {2, 3}
        assert replicas(home) == ()
        assert set(home.target.fakes) == served(home)


async def test_a_model_without_any_replica_stays_unhealthy_and_is_retried(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await with_replicas(home, 2)
        refuse_from(home, 0)
        for replica in replicas(home):
            home.target.states[replica.id] = ReplicaState(False, detail="gone")
        await home.monitor.cycle()
        await eventually(lambda: "no room" in str(home.state.deployment(ID).error))
        await eventually(lambda: home.status(ID) is Status.UNHEALTHY and not home.deployments.busy(ID))
        assert home.monitor.restarting == (ID,)
        assert replicas(home) == ()


async def test_a_replica_lost_during_a_restart_is_replaced(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await with_replicas(home, 3)
        before = replicas(home)
        probe = home.deployments.pipeline.starter.probe

        async def loses_the_second(model: ModelVersion, begun: StartedReplica) -> None:
            if begun.replica.number == 1:
                assert await home.deployments.lose(model, before[1], "killed meanwhile")
            await probe(model, begun)

        home.deployments.pipeline.starter.probe = loses_the_second  # type: ignore[method-assign]
        await home.deployments.restart(model)
        after = await home.deployments.settled(ID)
        assert (after.status, after.error) == (Status.LIVE, None)
        assert numbers(home) == [1, 2, 3]
        assert not set(before) & set(after.replicas)
        assert set(home.target.fakes) == {one.id for one in after.replicas} == served(home)
