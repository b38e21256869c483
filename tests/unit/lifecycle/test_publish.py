"""Two live versions of one name: one goes live beside the other, and the requests for the name are split."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from msgspec import structs

from app.core.model import ModelVersion, Status, TrafficChoice
from app.core.route import Arm, Route
from app.core.route_table import Endpoint
from app.dispatch.request import Call
from app.errors import Conflict, ReplicaUnavailable
from app.lifecycle.replacement import stopped_for
from app.runtime.target import ReplicaState
from tests.fakes import FakeReplica, eventually
from tests.unit.dispatch.route_lab import HangingReplica
from tests.unit.lifecycle.house_lab import House, house, house_again

STABLE, CANDIDATE, NEXT = "a" * 12, "b" * 12, "c" * 12


def route(stable: float, candidate: float) -> Route:
    return Route((Arm(STABLE, stable), Arm(CANDIDATE, candidate)))


async def live_beside(home: House, model_id: str, name: str = "iris") -> ModelVersion:
    """Take a version live beside what serves under its name."""
    model = await home.add(model_id, name)
    await home.deployments.start(model, traffic=TrafficChoice.AUTO)
    assert (await home.deployments.settled(model_id)).status is Status.LIVE
    return model


async def two_versions(home: House) -> None:
    await home.live(STABLE)
    await live_beside(home, CANDIDATE)


async def answering(home: House, count: int = 40, ref: str = "iris") -> Counter[str]:
    """Send requests; return how many of them each version answered."""
    answers = [await home.dispatcher.predict(Call(ref, b"1", "here")) for _ in range(count)]
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.headers["x-model-id"] for answer in answers)


def fake_of(home: House, model_id: str) -> FakeReplica:
    return next(fake for fake in home.target.fakes.values() if fake.replica.model_id == model_id)


def endpoint(home: House, ref: str) -> Endpoint:
    found = home.state.live_endpoint(ref)
    assert found is not None
    return found


async def test_a_version_that_goes_live_beside_another_takes_no_request_of_the_name(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.LIVE, Status.LIVE]
        assert await answering(home) == {STABLE: 40}
        assert await answering(home, 4, CANDIDATE) == {CANDIDATE: 4}
        assert await answering(home, 4, "iris@1.1.0") == {CANDIDATE: 4}
        assert home.state.find("iris").model_id == endpoint(home, "iris").model_id == STABLE
        assert endpoint(home, "iris@1.1.0").model_id == CANDIDATE


async def test_a_version_that_goes_live_beside_none_takes_every_request_of_the_name(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await live_beside(home, CANDIDATE)
        assert await answering(home, 4) == {CANDIDATE: 4}
        assert home.state.splits == {}


async def test_the_requests_of_a_name_are_split_as_the_weights_say(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        publisher = home.deployments.pipeline.publisher
        publisher.shift_traffic("iris", route(0.75, 0.25))
        counts = await answering(home)
        assert abs(counts[CANDIDATE] - 10) <= 3
        assert home.state.find("iris").model_id == STABLE
        publisher.shift_traffic("iris", route(0.0, 1.0))
        assert await answering(home) == {CANDIDATE: 40}
        assert home.state.find("iris").model_id == CANDIDATE
        await publisher.follow()
        assert await answering(home) == {CANDIDATE: 40}, "the next table says the same"


async def test_a_kept_model_stops_no_other_and_is_stopped_by_none(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        publisher = home.deployments.pipeline.publisher
        await home.live(STABLE, "iris")
        kept = await home.add(CANDIDATE, "rose", keep=True)
        assert [rival.name for rival in publisher.rivals("rose", CANDIDATE, kept=False)] == ["iris"]
        await home.deployments.start(kept)
        await home.deployments.settled(CANDIDATE)
        assert {home.status(STABLE), home.status(CANDIDATE)} == {Status.LIVE}
        assert [rival.name for rival in publisher.rivals("lily", kept=False)] == ["iris"]
        other = await home.add(NEXT, "lily")
        assert stopped_for(other, home.deployments) == ()
        await home.deployments.start(other)
        assert stopped_for(other, home.deployments) == ("iris@1.0.0",), "foreseen"
        await home.deployments.settled(NEXT)
        assert stopped_for(other, home.deployments) == ("iris@1.0.0",), "remembered"
        assert [home.status(id) for id in (STABLE, CANDIDATE, NEXT)] == [Status.STOPPED, Status.LIVE, Status.LIVE]


async def test_a_route_with_a_version_that_does_not_run_under_the_name_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        await two_versions(home)
        await home.live(NEXT, "other")
        publisher, before = home.deployments.pipeline.publisher, dict(home.state.splits)
        with pytest.raises(Conflict, match=f"`{NEXT}` is no version of `iris` that runs"):
            publisher.shift_traffic("iris", Route((Arm(STABLE, 0.5), Arm(NEXT, 0.5))))
        with pytest.raises(Conflict, match=f"`{CANDIDATE}` is no version of `rose`"):
            publisher.shift_traffic("rose", Route((Arm(CANDIDATE, 1.0),)))
        await home.deployments.stop(home.state.find(CANDIDATE))
        with pytest.raises(Conflict, match=f"`{CANDIDATE}` is no version of `iris` that runs"):
            publisher.shift_traffic("iris", route(0.5, 0.5))
        assert before == {"iris": route(1.0, 0.0)}
        assert await answering(home) == {STABLE: 40}


async def test_weights_change_while_another_model_is_being_connected_and_stay_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.dispatch.replica.CONNECT_TIMEOUT_SECONDS", 60.0)
    async with house(tmp_path, single_active_model=False) as home:
        await two_versions(home)
        publisher = home.deployments.pipeline.publisher
        publisher.shift_traffic("iris", route(0.5, 0.5))
        hanging = HangingReplica(tmp_path / "h.sock")
        await hanging.start()
        other = await home.add(NEXT, "other")
        await home.state.update(NEXT, wanted=True)
        replica = structs.replace(hanging.replica, model_id=NEXT)
        going_live = asyncio.create_task(publisher.go_live(other, [replica], None))
        await hanging.asked.wait()
        publisher.shift_traffic("iris", route(1.0, 0.0))
        assert await answering(home) == {STABLE: 40}
        assert not going_live.done()
        hanging.may_welcome.set()
        await going_live
        assert await answering(home) == {STABLE: 40}
        await publisher.follow()
        assert await answering(home) == {STABLE: 40}
        await hanging.die()


async def test_a_share_given_while_the_version_comes_back_counts_as_soon_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.dispatch.replica.CONNECT_TIMEOUT_SECONDS", 60.0)
    async with house(tmp_path) as home:
        await two_versions(home)
        publisher = home.deployments.pipeline.publisher
        publisher.shift_traffic("iris", route(0.5, 0.5))
        lost = home.state.deployment(CANDIDATE).replicas[0]
        candidate = home.state.find(CANDIDATE)
        await home.deployments.lose(candidate, lost, "gone", coming=True)
        assert await answering(home) == {STABLE: 40}
        hanging = HangingReplica(tmp_path / "h.sock")
        await hanging.start()
        replica = structs.replace(hanging.replica, model_id=CANDIDATE)
        joining = asyncio.create_task(publisher.join(candidate, replica))
        await hanging.asked.wait()
        publisher.shift_traffic("iris", route(0.75, 0.25))
        assert await answering(home) == {STABLE: 40}, "it has no replica yet"
        hanging.may_welcome.set()
        await joining
        assert abs((await answering(home))[CANDIDATE] - 10) <= 3
        await hanging.die()


async def test_an_upload_replaces_both_versions_and_takes_every_request(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        home.deployments.pipeline.publisher.shift_traffic("iris", route(0.75, 0.25))
        await home.live(NEXT)
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.STOPPED, Status.STOPPED]
        assert home.state.splits == {}
        assert await answering(home) == {NEXT: 40}


async def test_an_upload_takes_every_request_also_if_a_version_of_the_split_failed(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        home.deployments.pipeline.publisher.shift_traffic("iris", route(0.75, 0.25))
        await home.state.update(CANDIDATE, status=Status.FAILED)
        await home.live(NEXT)
        assert home.state.splits == {}
        assert await answering(home) == {NEXT: 40}


@pytest.mark.parametrize("delete", [True, False])
async def test_a_version_that_is_stopped_or_deleted_leaves_the_split(tmp_path: Path, delete: bool) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        home.deployments.pipeline.publisher.shift_traffic("iris", route(0.25, 0.75))
        await (home.deployments.delete if delete else home.deployments.stop)(home.state.find(CANDIDATE))
        assert home.state.splits == {"iris": Route((Arm(STABLE, 1.0),))}
        assert await answering(home) == {STABLE: 40}
        await home.deployments.stop(home.state.find(STABLE))
        assert home.state.splits == {}


async def test_the_version_without_a_share_gets_none_once_the_other_one_is_stopped_until_it_is_started(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        await home.deployments.stop(home.state.find("iris"))
        assert (home.status(STABLE), home.status(CANDIDATE)) == (Status.STOPPED, Status.LIVE)
        assert home.state.splits == {}
        with pytest.raises(Conflict, match=r"takes its requests; 1\.1\.0 runs without") as refused:
            await home.predict("iris")
        assert "prism models start iris@1.1.0" in refused.value.hint
        assert await answering(home, 4, "iris@1.1.0") == {CANDIDATE: 4}
        await home.deployments.start(home.state.find("iris@1.1.0"))
        assert await answering(home) == {CANDIDATE: 40}


async def test_a_start_of_the_version_beside_gives_it_every_request_at_once_and_stops_the_other(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        starts = home.target.events.count("start")
        await home.deployments.start(home.state.find(CANDIDATE))
        assert await answering(home, 4) == {CANDIDATE: 4}, "before anything is stopped"
        await home.deployments.settled(CANDIDATE)
        assert (home.status(STABLE), home.status(CANDIDATE)) == (Status.STOPPED, Status.LIVE)
        assert home.target.events.count("start") == starts, "nothing is built or started for it"
        assert home.state.deployment(CANDIDATE).traffic is TrafficChoice.ALL


async def test_a_version_beside_another_name_stops_none_though_only_one_model_is_active(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        lone = await home.add(NEXT, "rose")
        await home.deployments.start(lone, traffic=TrafficChoice.NONE)
        assert stopped_for(lone, home.deployments) == ()
        await home.deployments.settled(NEXT)
        assert [home.status(each) for each in (STABLE, CANDIDATE, NEXT)] == [Status.LIVE] * 3
        with pytest.raises(Conflict, match="No version of `rose` takes its requests"):
            await home.predict("rose")


async def test_another_name_that_goes_live_stops_both_versions(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        await home.live(NEXT, "rose")
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.STOPPED] * 2


async def test_a_version_takes_every_request_beside_one_that_has_none(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.deployments.start(await home.add(STABLE), traffic=TrafficChoice.NONE)
        await home.deployments.settled(STABLE)
        await live_beside(home, CANDIDATE)
        assert await answering(home) == {CANDIDATE: 40}
        assert home.status(STABLE) is Status.LIVE


async def test_the_version_that_was_given_every_request_keeps_them_after_the_other_is_stopped_and_a_restart(
    tmp_path: Path,
) -> None:
    home = House(tmp_path)
    await two_versions(home)
    home.deployments.pipeline.publisher.shift_traffic("iris", route(0.0, 1.0))
    await home.deployments.stop(home.state.find(STABLE))
    await home.dispatcher.close()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert await answering(home) == {CANDIDATE: 40}


async def test_a_version_that_was_stopped_replaces_the_other_one_when_it_is_started_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        await home.deployments.stop(home.state.find(CANDIDATE))
        await home.deployments.start(home.state.find(CANDIDATE))
        await home.deployments.settled(CANDIDATE)
        assert home.status(STABLE) is Status.STOPPED
        assert await answering(home) == {CANDIDATE: 40}


@pytest.mark.parametrize("model_id", [STABLE, CANDIDATE])
async def test_a_replica_of_either_version_is_replaced_and_the_other_version_stays(
    tmp_path: Path, model_id: str
) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        home.deployments.pipeline.publisher.shift_traffic("iris", route(0.75, 0.25))
        gone = fake_of(home, model_id)
        home.target.states[gone.replica.id] = ReplicaState(False, detail="gone")
        await home.monitor.cycle()
        await eventually(lambda: home.status(model_id) is Status.LIVE and not home.monitor.restarting)
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.LIVE, Status.LIVE]
        assert abs((await answering(home))[CANDIDATE] - 10) <= 3


async def test_while_the_version_with_every_request_is_down_the_one_without_a_share_gets_none(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        stable = home.state.find(STABLE)
        await home.deployments.lose(stable, fake_of(home, STABLE).replica, "gone", coming=True)
        assert home.state.find("iris").model_id == STABLE
        waiting = home.dispatcher.begin(Call("iris", b"1", "here"))
        assert waiting.lane.endpoint.model_id == STABLE
        await home.deployments.pipeline.replicas.add(stable, 1)
        assert (await waiting.answer()).status == 200
        assert await answering(home) == {STABLE: 40}


async def test_a_name_whose_version_is_lost_for_good_is_refused_and_stands_for_that_version(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        await home.deployments.lose(home.state.find(STABLE), fake_of(home, STABLE).replica, "gone")
        assert home.state.find("iris").model_id == STABLE
        assert home.state.live_endpoint("iris") is None
        with pytest.raises(ReplicaUnavailable, match="`iris` "):
            await home.predict("iris")
        assert await home.predict(CANDIDATE) == 200


@pytest.mark.parametrize("model_id", [STABLE, CANDIDATE])
@pytest.mark.parametrize("is_down", [True, False])
async def test_a_restart_of_either_version_leaves_the_other_one_alone(
    tmp_path: Path, model_id: str, is_down: bool
) -> None:
    async with house(tmp_path) as home:
        await two_versions(home)
        publisher = home.deployments.pipeline.publisher
        publisher.shift_traffic("iris", route(0.75, 0.25))
        model, before = home.state.find(model_id), fake_of(home, model_id).replica
        if is_down:
            await home.deployments.lose(model, before, "gone")
        await home.deployments.restart(model)
        await home.deployments.settled(model_id)
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.LIVE, Status.LIVE]
        assert home.state.deployment(model_id).replicas != (before,)
        assert abs((await answering(home))[CANDIDATE] - 10) <= 3


async def test_the_next_gateway_adopts_both_versions_and_the_name_goes_to_the_one_that_answered(tmp_path: Path) -> None:
    home = House(tmp_path)
    await two_versions(home)
    await home.dispatcher.close()  # killed: nothing else is put in order
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.LIVE, Status.LIVE]
        assert home.target.events.count("start") == 2
        assert await answering(home) == {STABLE: 40}
        assert await answering(home, 4, CANDIDATE) == {CANDIDATE: 4}
        home.deployments.pipeline.publisher.shift_traffic("iris", route(0.0, 1.0))
        assert await answering(home) == {CANDIDATE: 40}


async def test_without_the_registrys_file_the_older_version_that_runs_gets_the_requests(tmp_path: Path) -> None:
    home = House(tmp_path)
    await two_versions(home)
    await home.dispatcher.close()
    home.settings.registry_path.write_text("{")
    async with house_again(home):
        assert not home.registry_was_whole
        await home.deployments.resume(registry_lost=True)
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.LIVE, Status.LIVE]
        assert await answering(home) == {STABLE: 40}
        assert await answering(home, 4, CANDIDATE) == {CANDIDATE: 4}


async def test_the_next_gateway_starts_both_versions_again_and_neither_replaces_the_other(tmp_path: Path) -> None:
    home = House(tmp_path)
    await two_versions(home)
    for replica in home.target.fakes.values():
        home.target.states[replica.replica.id] = ReplicaState(False, detail="gone")
    await home.deployments.shut_down(keep_models=False)
    await home.dispatcher.close()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        for model_id in (CANDIDATE, STABLE):
            await home.deployments.settled(model_id)
        assert [home.status(each) for each in (STABLE, CANDIDATE)] == [Status.LIVE, Status.LIVE]
        assert await answering(home) == {STABLE: 40}


async def test_a_version_goes_live_beside_two_that_an_earlier_gateway_left(tmp_path: Path) -> None:
    home = House(tmp_path)
    await two_versions(home)
    await home.dispatcher.close()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        await live_beside(home, NEXT)
        assert [home.status(each) for each in (STABLE, CANDIDATE, NEXT)] == [Status.LIVE] * 3
        assert await answering(home) == {STABLE: 40}
