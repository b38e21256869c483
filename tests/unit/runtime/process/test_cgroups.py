"""The limits of a replica's control group, in a folder that stands for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.model import Limits
from app.runtime.process import cgroups
from app.runtime.process.cgroup_places import CONTROLLERS, NoCgroup, Place

LIMITS = Limits(memory_mb=64, cpus=1.5, pids=9)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cgroups.Cgroups:
    monkeypatch.setattr(cgroups, "find_place", lambda: Place("v2", dict.fromkeys(CONTROLLERS, tmp_path)))
    return cgroups.Cgroups("home")


def test_a_version_2_group_limits_memory_processes_and_cpu(made: cgroups.Cgroups, tmp_path: Path) -> None:
    (tmp_path / "prism-home-ab").mkdir()
    (tmp_path / "prism-home-ab" / "memory.swap.max").write_text("max")  # as the kernel makes it
    group = made.make("ab", LIMITS)
    assert group
    assert set(group.folders) == set(CONTROLLERS)
    found = {file.name: file.read_text() for file in (tmp_path / "prism-home-ab").iterdir()}
    assert found == {
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "9",
        "cpu.max": "150000 100000",
    }


def test_the_reason_is_given_if_no_control_group_can_be_created(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Place:
        raise NoCgroup("no control groups are mounted here")

    monkeypatch.setattr(cgroups, "find_place", none)
    groups = cgroups.Cgroups("home")
    assert groups.make("ab", LIMITS) is None
    assert groups.why_not == "no control groups are mounted here"


def test_a_group_without_a_memory_limit_is_not_used_and_is_removed(
    made: cgroups.Cgroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refused)
    assert made.make("ab", LIMITS) is None
    assert "Permission denied" in made.why_not
    assert list(tmp_path.iterdir()) == []


def test_groups_left_by_a_killed_gateway_are_removed_at_the_first_start(made: cgroups.Cgroups, tmp_path: Path) -> None:
    for name in ("prism-home-dead", "prism-another-dead"):
        (tmp_path / name).mkdir()
    (tmp_path / "prism-home-living").mkdir()
    (tmp_path / "prism-home-living" / "process").touch()  # the kernel removes no group with a process in it
    made.make("new", LIMITS)
    assert {one.name for one in tmp_path.iterdir()} == {"prism-another-dead", "prism-home-living", "prism-home-new"}
