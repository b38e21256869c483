from __future__ import annotations

import pytest
from msgspec import structs

from app.core.model import Deployment, Replica, Status, TargetName
from app.core.route_table import failed_at_first, is_down, route_table

REPLICA = Replica("m1", TargetName.PROCESS, "1:1", "t", "")
V1 = Deployment("m1", "iris", "1.0.0", Status.LIVE, True, replicas=(REPLICA,), live_at="2026-01-01", created_at="1")
V2 = structs.replace(V1, model_id="m2", version="1.1.0", live_at="2026-01-02", created_at="2")


def test_a_name_goes_to_the_version_that_became_live_last() -> None:
    assert route_table([V2, V1]).live["iris"].model_id == "m2"
    rolled_back = structs.replace(V1, live_at="2026-01-03")
    assert route_table([rolled_back, V2]).live["iris"].model_id == "m1"


def test_a_version_and_a_model_id_always_go_to_that_very_version() -> None:
    table = route_table([V1, V2])
    assert table.live["iris@1.0.0"].model_id == table.live["m1"].model_id == "m1"
    assert table.live["iris@1.1.0"].model_id == table.live["m2"].model_id == "m2"


def test_a_replica_serves_on_while_its_successor_is_started() -> None:
    for status in (Status.STARTING, Status.PROBING, Status.BUILDING):
        assert "iris" in route_table([structs.replace(V1, status=status)]).live


def test_what_is_stopped_failed_or_unhealthy_takes_no_traffic() -> None:
    for status in (Status.STOPPED, Status.FAILED, Status.UNHEALTHY):
        table = route_table([structs.replace(V1, status=status)])
        assert "iris" not in table.live
        assert table.absent["iris"].returning is (status is not Status.FAILED)


def test_a_stopped_version_does_not_hide_the_live_one_of_the_same_name() -> None:
    newer_stopped = structs.replace(V2, status=Status.STOPPED, wanted=False, live_at="2026-01-09")
    assert route_table([V1, newer_stopped]).live["iris"].model_id == "m1"


@pytest.mark.parametrize("status", [one for one in Status if one not in (Status.LIVE, Status.UNHEALTHY)])
def test_a_model_that_was_never_live_is_not_down(status: Status) -> None:
    never_live = structs.replace(V1, status=status, replicas=(), live_at="")
    assert not is_down(never_live)
    assert failed_at_first(never_live) is (status is Status.FAILED)


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.LIVE])
def test_a_model_that_was_live_and_is_wanted_is_down_while_it_takes_no_traffic(status: Status) -> None:
    lost = structs.replace(V1, status=status, replicas=())
    assert is_down(lost)
    assert not is_down(structs.replace(lost, wanted=False))
    assert not failed_at_first(lost)


def test_a_model_that_takes_traffic_is_not_down() -> None:
    assert not is_down(V1)
    assert not is_down(structs.replace(V1, status=Status.STARTING))
