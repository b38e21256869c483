"""Where control groups of replicas may be made, from what the kernel writes of groups and mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.runtime.process.cgroup_places import LEAF, NoCgroup, locate, prepare

FIRST = """\
36:pids:/system.slice/prism.service
35:cpu,cpuacct:/system.slice/prism.service
34:memory:/system.slice/prism.service
1:name=systemd:/system.slice/prism.service
0::/
"""
FIRST_MOUNTS = """\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
SECOND = "0::/user.slice/user-1000.slice/user@1000.service/prism.scope\n"
SECOND_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_each_controller_of_version_1_has_a_hierarchy() -> None:
    place = locate(FIRST, FIRST_MOUNTS)
    assert place.version == "v1"
    assert {name: str(folder) for name, folder in place.folders.items()} == {
        "memory": "/sys/fs/cgroup/memory/system.slice/prism.service",
        "pids": "/sys/fs/cgroup/pids/system.slice/prism.service",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/system.slice/prism.service",
    }


def test_version_2_has_one_for_all() -> None:
    place = locate(SECOND, SECOND_MOUNTS)
    assert place.version == "v2"
    (folder,) = set(place.folders.values())
    assert str(folder) == "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/prism.scope"


def test_version_2_is_used_if_no_version_1_hierarchy_has_memory() -> None:
    assert locate("2:cpu:/\n0::/a\n", FIRST_MOUNTS).folders["memory"] == Path("/sys/fs/cgroup/unified/a")


def test_a_container_sees_a_part_of_the_control_group_tree() -> None:
    mounts = "35 31 0:32 /docker/ab /sys/fs/cgroup/my\\040memory ro - cgroup cgroup rw,memory\n" + FIRST_MOUNTS
    groups = "1:memory:/docker/ab/c\n2:pids:/\n"
    assert str(locate(groups, mounts).folders["memory"]) == "/sys/fs/cgroup/my memory/c"


def test_a_group_outside_the_mount_cannot_be_used() -> None:
    with pytest.raises(NoCgroup):
        locate("0::/../other\n", SECOND_MOUNTS)


@pytest.mark.parametrize("mounts", ["", "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"])
def test_without_a_mount_there_are_no_control_groups(mounts: str) -> None:
    with pytest.raises(NoCgroup):
        locate(SECOND, mounts)


def group(folder: Path, controllers: str = "cpu io memory pids", processes: tuple[int, ...] = ()) -> Path:
    folder.mkdir()
    (folder / "cgroup.type").write_text("domain\n")
    (folder / "cgroup.controllers").write_text(controllers + "\n")
    (folder / "cgroup.subtree_control").write_text("")
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in processes))
    return folder


def test_the_gateway_moves_to_a_leaf_so_that_its_group_can_delegate_controllers(tmp_path: Path) -> None:
    own = group(tmp_path / "prism.scope", processes=(os.getpid(),))
    (own / LEAF).mkdir()
    place = prepare(own)
    assert (own / LEAF / "cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+cpu"
    assert place.folders == dict.fromkeys(("memory", "pids", "cpu"), own)


def test_a_gateway_in_its_leaf_uses_the_parent_group(tmp_path: Path) -> None:
    own = group(tmp_path / "prism.scope")
    (own / "cgroup.subtree_control").write_text("cpu memory pids\n")
    leaf = group(own / LEAF, processes=(os.getpid(),))
    assert set(prepare(leaf).folders.values()) == {own}


def test_processes_of_other_programs_are_not_moved(tmp_path: Path) -> None:
    own = group(tmp_path / "session.scope", processes=(os.getpid(), os.getppid()))
    with pytest.raises(NoCgroup, match=f"other processes are in .*{os.getppid()}"):
        prepare(own)
    assert not (own / LEAF).exists()


def test_without_a_memory_controller_there_are_no_control_groups(tmp_path: Path) -> None:
    with pytest.raises(NoCgroup, match="no controllers for memory and pids"):
        prepare(group(tmp_path / "prism.scope", "cpu pids"))


def test_without_a_cpu_controller_the_other_limits_apply(tmp_path: Path) -> None:
    assert set(prepare(group(tmp_path / "prism.scope", "memory pids")).folders) == {"memory", "pids"}


def test_a_group_that_cannot_be_written_is_out_of_reach(tmp_path: Path) -> None:
    own = group(tmp_path / "session.scope", processes=(os.getpid(),))
    (own / LEAF).touch()  # neither root nor anybody else can put a process below it
    with pytest.raises(NoCgroup, match="not given to this user"):
        prepare(own)


def test_all_processes_of_a_group_delegated_by_systemd_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = group(tmp_path / "prism.scope", processes=(os.getppid(),))
    (own / LEAF).mkdir()
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"1" if name == "user.delegate" else b"", raising=False)
    prepare(own)
    assert (own / LEAF / "cgroup.procs").read_text() == str(os.getppid())
