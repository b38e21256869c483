from __future__ import annotations

import pytest
from msgspec import structs

from app.core.model import Deployment, Replica, Status
from app.core.route import Arm, Route
from app.core.route_table import Outlook, failed_at_first, is_down, route_table

REPLICA = Replica("m1", "process", "1:1", "t", "")
V1 = Deployment("m1", "iris", "1.0.0", Status.LIVE, True, replicas=(REPLICA,), live_at="2026-01-01", created_at="1")
V2 = structs.replace(V1, model_id="m2", version="1.1.0", live_at="2026-01-02", created_at="2")


def test_a_name_goes_to_the_version_that_became_live_last() -> None:
    assert route_table([V2, V1]).live["iris"].model_id == "m2"
    rolled_back = structs.replace(V1, live_at="2026-01-03")
    assert route_table([rolled_back, V2]).live["iris"].model_id == "m1"


def test_a_version_and_a_model_id_always_route_to_that_version() -> None:
    table = route_table([V1, V2])
    assert table.live["iris@1.0.0"].model_id == table.live["m1"].model_id == "m1"
    assert table.live["iris@1.1.0"].model_id == table.live["m2"].model_id == "m2"


def test_a_replica_keeps_serving_while_its_successor_starts() -> None:
    for status in (Status.STARTING, Status.PROBING, Status.BUILDING):
        assert "iris" in route_table([structs.replace(V1, status=status)]).live


def test_stopped_failed_and_unhealthy_models_take_no_traffic() -> None:
    for status in (Status.STOPPED, Status.FAILED, Status.UNHEALTHY):
        table = route_table([structs.replace(V1, status=status)])
        assert "iris" not in table.live
        assert table.absent["iris"].returning is (status is not Status.FAILED)


def test_a_stopped_version_does_not_hide_the_live_one_of_the_same_name() -> None:
    newer_stopped = structs.replace(V2, status=Status.STOPPED, wanted=False, live_at="2026-01-09")
    assert route_table([V1, newer_stopped]).live["iris"].model_id == "m1"


def test_without_a_split_the_route_of_a_name_is_its_newest_live_version() -> None:
    assert route_table([V1, V2]).routes == {"iris": Route((Arm("m2", 1.0),))}
    assert route_table([structs.replace(V1, status=Status.STOPPED)]).routes == {}


CANARY = Route((Arm("m1", 0.95), Arm("m2", 0.05)), mirror="m3")
V3 = structs.replace(V1, model_id="m3", version="1.2.0", live_at="2026-01-03", created_at="3")


def test_a_split_name_stands_for_its_main_arm_and_every_version_for_itself() -> None:
    table = route_table([V1, V2, V3], splits={"iris": CANARY})
    assert table.routes == {"iris": CANARY}
    assert table.live["iris"].model_id == "m1"
    assert {ref: table.live[ref].model_id for ref in ("iris@1.1.0", "m2", "iris@1.2.0", "m3")} == {
        **{"iris@1.1.0": "m2", "m2": "m2"},
        **{"iris@1.2.0": "m3", "m3": "m3"},
    }


def test_an_arm_that_is_down_gives_its_share_away_and_gets_it_back() -> None:
    down = structs.replace(V1, replicas=(), status=Status.UNHEALTHY)
    table = route_table([down, V2, V3], splits={"iris": CANARY})
    assert table.routes == {"iris": Route((Arm("m2", 1.0),), mirror="m3")}
    assert table.live["iris"].model_id == "m2"
    assert "m1" in table.absent
    no_mirror = structs.replace(V3, status=Status.STOPPED, wanted=False)
    assert route_table([V1, V2, no_mirror], splits={"iris": CANARY}).routes == {"iris": Route(CANARY.arms)}


@pytest.mark.parametrize("coming", [True, False])
def test_a_name_whose_arms_are_all_down_does_not_go_to_a_version_without_a_share(coming: bool) -> None:
    down = structs.replace(V1, replicas=(), status=Status.UNHEALTHY)
    split = Route((Arm("m1", 1.0), Arm("m2", 0.0)), mirror="m3")
    table = route_table([down, V2, V3], {"m1": Outlook(coming=coming)}, {"iris": split})
    assert "iris" not in table.live
    assert "iris" not in table.routes
    assert table.absent["iris"].status is Status.UNHEALTHY
    assert ("iris" in table.awaited) is coming
    assert table.live["iris@1.1.0"].model_id == "m2"


def test_the_state_of_a_version_without_a_share_is_not_that_of_the_name() -> None:
    down = structs.replace(V1, replicas=(), status=Status.UNHEALTHY)
    failed = structs.replace(V2, replicas=(), status=Status.FAILED)
    table = route_table([down, failed], {"m1": Outlook(coming=True)}, {"iris": Route((Arm("m1", 1.0), Arm("m2", 0.0)))})
    assert table.absent["iris"].status is Status.UNHEALTHY
    assert table.awaited["iris"].model_id == "m1"


def test_another_split_changes_the_route_of_its_name_only() -> None:
    other = structs.replace(V1, model_id="o1", name="other")
    table = route_table([V1, V2, other], splits={"iris": Route((Arm("m1", 1.0), Arm("m2", 0.0)))})
    shifted = table.with_split("iris", Route((Arm("m1", 0.2), Arm("m2", 0.8))))
    assert shifted.live["iris"].model_id == "m2"
    assert shifted.endpoints == table.endpoints
    assert {ref: one for ref, one in shifted.live.items() if ref != "iris"} == {
        ref: one for ref, one in table.live.items() if ref != "iris"
    }


@pytest.mark.parametrize("status", [one for one in Status if one not in (Status.LIVE, Status.UNHEALTHY)])
def test_a_model_that_was_never_live_is_not_down(status: Status) -> None:
    never_live = structs.replace(V1, status=status, replicas=(), live_at="")
    assert not is_down(never_live)
    assert failed_at_first(never_live) is (status is Status.FAILED)


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.LIVE])
def test_a_model_that_should_be_live_is_down_while_it_takes_no_traffic(status: Status) -> None:
    lost = structs.replace(V1, status=status, replicas=())
    assert is_down(lost)
    assert not is_down(structs.replace(lost, wanted=False))
    assert not failed_at_first(lost)


def test_a_model_that_takes_traffic_is_not_down() -> None:
    assert not is_down(V1)
    assert not is_down(structs.replace(V1, status=Status.STARTING))
