"""What the dashboard shows first, what later, and what it leaves to the next page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.inspection import Format, Inspection, UnsafeGlobal
from app.core.model import Status
from app.errors import Conflict
from app.lifecycle.dismissal import dismiss
from app.lifecycle.health.usage import KEPT_SECONDS, UsageSampler
from app.lifecycle.models_folder.watcher import ModelsFolder
from app.observe.history import History
from app.runtime.doctor import Check
from app.runtime.target import ReplicaState
from app.ui.model_table import PER_PAGE, Table, Wish
from app.ui.overview import Overview, overview
from tests.records import with_facts
from tests.unit.lifecycle.house_lab import House, house


async def shown(home: House, **wish: Any) -> Overview:
    history = History(home.dispatcher.tallies, clock=lambda: home.now)
    nothing = ModelsFolder(home.deployments, None, 1)
    vitals = UsageSampler(home.deployments, clock=lambda: home.now)
    return await overview(
        home.deployments, nothing, history, vitals, Check("ok", "disk", ""), home.monitor.unavailable, Wish(**wish)
    )


def names(table: Table) -> list[str]:
    return [row.first.model.name for row in table.rows]


async def test_deployments_in_progress_come_first_then_live_models_by_name_then_failed_ones_then_the_rest(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        for letter, name in (("b", "beta"), ("a", "alpha")):
            await home.live(letter * 12, name)
        await home.add("f" * 12, "broken")
        await home.state.update("f" * 12, status=Status.FAILED)
        await home.add("c" * 12, "stopped")
        await home.add("d" * 12, "newer")
        await home.add("e" * 12, "zeta")
        await home.state.update("e" * 12, status=Status.BUILDING)
        found = (await shown(home)).table
        assert names(found) == ["zeta", "alpha", "beta", "broken", "newer", "stopped"]
        assert [row.figures is not None for row in found.rows] == [True, True, True, False, False, False]
        await home.state.update("e" * 12, status=Status.STOPPED)


async def test_versions_are_below_their_model_which_the_serving_one_stands_for(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        await home.live("a" * 12, "iris")
        for letter in "bc":
            await home.add(letter * 12, "iris")
        await home.state.update("c" * 12, status=Status.FAILED)
        await home.add("d" * 12, "other")
        iris, other = (await shown(home)).table.rows
        assert iris.first.model.model_id == "a" * 12
        assert [line.model.version for line in iris.others] == ["1.2.0", "1.1.0"]
        assert (other.first.model.name, other.others) == ("other", [])


async def test_models_are_searched_by_a_part_of_their_name_and_filtered_by_status(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        await home.live("a" * 12, "Iris-eu")
        for letter, name in (("b", "iris-us"), ("c", "churn"), ("d", "churn-iris")):
            await home.add(letter * 12, name)
        await home.state.update("b" * 12, status=Status.FAILED)
        found = (await shown(home, text=" IRIS ")).table
        assert set(names(found)) == {"Iris-eu", "iris-us", "churn-iris"}
        assert dict(found.counts) == {"all": 3, "live": 1, "failed": 1, "stopped": 1}
        assert names((await shown(home, text="iris", only="failed")).table) == ["iris-us"]
        nothing = await shown(home, text="no such model")
        assert (nothing.table.rows, nothing.count) == ((), 4)


async def test_a_long_table_has_pages_and_none_beyond_the_last(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for number in range(PER_PAGE + 1):
            await home.add(f"{number:012x}", f"m{number}")
        first, second, beyond = [(await shown(home, page=page)).table for page in (1, 2, 9)]
        assert (first.counts["all"], first.pages, len(first.rows)) == (PER_PAGE + 1, 2, PER_PAGE)
        assert names(second) == ["m0"]
        assert beyond.wish.page == 2


async def test_the_worst_needs_attention_first(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        for letter, status in (("a", Status.FAILED), ("b", Status.UNHEALTHY), ("c", Status.STOPPED)):
            await home.add(letter * 12, status.value)
            await home.state.update(letter * 12, status=status, wanted=True, error={"detail": "why", "hint": "do"})
        await home.live("d" * 12, "kept")
        await home.state.update("d" * 12, error={"detail": "the restart failed"})
        await home.live("e" * 12, "risky")
        dangers = Inspection(Format.PICKLE, dangers=(UnsafeGlobal("os.system", "it runs a command"),))
        risky = home.state.find("e" * 12)
        await home.store.save(with_facts(risky, unsafe_consent="2026-01-02T12:00:00Z", inspection=dangers))
        found = (await shown(home)).attention
        assert [(one.tone, one.title.partition("@")[0]) for one in found if one.model_id] == [
            ("bad", "unhealthy"),
            ("bad", "failed"),
            ("warn", "kept"),
            ("warn", "stopped"),
            ("warn", "risky"),
        ]
        assert "os.system" in found[4].detail
        for name in ("failed", "stopped", "kept", "risky"):
            await dismiss(home.state.find(name), home.deployments)
        assert [one.title.partition("@")[0] for one in (await shown(home)).attention] == ["unhealthy"]
        with pytest.raises(Conflict, match="is still being worked on"):
            await dismiss(home.state.find("unhealthy"), home.deployments)


async def test_failed_versions_of_a_name_are_one_item_and_history_once_a_newer_one_serves(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for letter in "ab":
            await home.add(letter * 12)
            await home.state.update(letter * 12, status=Status.FAILED, wanted=True, error={"detail": f"why {letter}"})
        (item,) = (await shown(home)).attention
        assert (item.title, item.detail) == ("iris@1.1.0 failed, and 1 earlier version", "why b")
        assert list(item.dismisses) == ["b" * 12, "a" * 12]
        await home.live("c" * 12)
        assert (await shown(home)).attention == []
        await home.add("d" * 12)
        await home.state.update("d" * 12, status=Status.FAILED, wanted=True)
        (item,) = (await shown(home)).attention
        assert item.title == "iris@1.3.0 failed", "it is newer than the one that serves"


async def test_further_attention_items_are_counted_instead_of_listed(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for number in range(8):
            await home.add(f"{number:012x}", f"m{number}")
            await home.state.update(f"{number:012x}", status=Status.FAILED, wanted=True, error={"detail": "why"})
        found = await shown(home)
        assert len(found.attention) == 5
        assert found.more_attention >= 3


async def test_a_row_shows_the_usage_of_its_replicas(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.live("a" * 12)
        vitals = UsageSampler(home.deployments, clock=lambda: home.now)
        replica = home.replica().replica
        deployments = home.state.deployments()
        home.target.states[replica.id] = ReplicaState(True, rss_bytes=1 << 26, cpu_seconds=10.0)
        first = (await vitals.of(deployments))[replica.id]
        assert (first.state.rss_bytes, first.cores) == (1 << 26, None)
        home.target.states[replica.id] = ReplicaState(True, rss_bytes=1 << 26, cpu_seconds=12.0)
        assert (await vitals.of(deployments))[replica.id] is first, "asked again too soon"
        home.now += 2 * KEPT_SECONDS
        assert (await vitals.of(deployments))[replica.id].cores == pytest.approx(2.0 / (2 * KEPT_SECONDS))
