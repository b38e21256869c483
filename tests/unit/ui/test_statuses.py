"""Where a model stands on its way to life, from what the registry knows of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.model import Deployment, Replica, Status
from app.ui.statuses import badge, steps

NOW = datetime(2026, 1, 2, 12, 0, 3, tzinfo=UTC)
TIMES = {"receive": 12.0, "inspect": 80.0, "resolving": 400.0, "building": 9000.0, "starting": 900.0, "probing": 20.0}
REPLICA = Replica("a", "process", "1:1", "token", "")


def deployment(status: Status, times: int = 6, **more: Any) -> Deployment:
    """times: how many of the steps have been measured."""
    timings = dict(list(TIMES.items())[:times])
    metadata = {"timings_ms": timings}
    return Deployment("a", "iris", "1.0.0", status, True, updated_at="2026-01-02T12:00:00Z", metadata=metadata, **more)


def states(one: Deployment) -> str:
    """A letter for each step."""
    return "".join(step.state[0] for step in steps(one, NOW))


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (Status.INSPECTING, "dnwwwww"),
        (Status.RESOLVING, "ddnwwww"),
        (Status.BUILDING, "dddnwww"),
        (Status.PROBING, "dddddnw"),
        (Status.LIVE, "ddddddd"),
        (Status.BUILT, "ddddwww"),
    ],
)
def test_each_step_is_done_running_or_waiting(status: Status, shown: str) -> None:
    assert states(deployment(status)) == shown


def test_the_running_step_counts_up_and_waiting_steps_show_no_time() -> None:
    shown = steps(deployment(Status.BUILDING), NOW)
    assert [step.ms for step in shown] == [12.0, 80.0, 400.0, 3000.0, None, None, None]


@pytest.mark.parametrize(
    ("error", "times", "shown"),
    [
        ({"step": "building", "code": "internal_error"}, 6, "dddfwww"),
        ({"code": "environment_failed"}, 6, "ddfwwww"),
        ({"code": "start_failed"}, 4, "ddddfww"),
        ({"code": "probe_failed"}, 6, "dddddfw"),
        ({"code": "internal_error"}, 3, "dddfwww"),
        (None, 2, "ddfwwww"),
    ],
)
def test_the_failed_step_is_derived_from_the_error(error: dict[str, str] | None, times: int, shown: str) -> None:
    assert states(deployment(Status.FAILED, times, error=error)) == shown


def test_a_model_that_serves_while_it_is_replaced_says_so() -> None:
    assert badge(deployment(Status.STARTING)).text == "starting"
    assert badge(deployment(Status.STARTING, replicas=(REPLICA,))).text == "replacing"
    assert badge(deployment(Status.LIVE, replicas=(REPLICA,))).tone == "good"
    assert badge(deployment(Status.FAILED)).tone == badge(deployment(Status.UNHEALTHY)).tone == "bad"
