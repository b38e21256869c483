"""A target that does not answer any more, while its replicas still do."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.core.model import Status
from app.errors import TargetUnavailable
from app.lifecycle.health.monitor import FAILURES_TO_UNHEALTHY
from tests.unit.lifecycle.house_lab import house

ID = "a" * 12


async def test_a_model_stays_live_as_long_as_it_answers_although_its_engine_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise TargetUnavailable("No engine answers.")

    async with house(tmp_path) as home:
        await home.live(ID)
        replica = home.replica()
        with monkeypatch.context() as lost, capture_logs() as logs:
            for question in ("require_available", "state", "replicas"):
                lost.setattr(home.target, question, gone)
            for _ in range(FAILURES_TO_UNHEALTHY + 1):
                await home.monitor.cycle()
            assert home.monitor.unavailable == ("process",)
            assert (home.status(ID), await home.predict("iris")) == (Status.LIVE, 200)
            assert [entry["event"] for entry in logs] == ["the targets that do not answer have changed"], "told once"
            await replica.die()
            for _ in range(FAILURES_TO_UNHEALTHY):
                await home.monitor.cycle()
            assert home.status(ID) is not Status.LIVE, "it does not answer, either"
        await home.monitor.cycle()
        assert home.monitor.unavailable == ()
