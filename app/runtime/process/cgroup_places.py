"""Finds where this process may make control groups below its own: the folders of Linux's cgroups, v1 or v2.

Version 1 has a hierarchy for each controller, and any group may hold both processes and groups. In version 2 a group
that gives its controllers to groups below it holds no process itself (the "no internal processes" rule of
linux/Documentation/admin-guide/cgroup-v2.rst), so the gateway first moves itself into a leaf of its group.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

LEAF = "prism-gateway"
CONTROLLERS = ("memory", "pids", "cpu")
REQUIRED = frozenset({"memory", "pids"})
_MOVES = 10
FIX = "Start PRISM with `systemd-run --user --scope -p Delegate=yes prism run` (without --user as root)."


class NoCgroup(OSError):
    """The error where no control group can be had; the message says why."""


@dataclass(frozen=True)
class Place:
    """The group that those of replicas are made in. folders: of each controller; one and the same in version 2."""

    version: Literal["v1", "v2"]
    folders: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy. root: the group that is seen at `folder`. version: that of the hierarchy."""

    root: str
    folder: str
    version: Literal["v1", "v2"]
    controllers: frozenset[str]


def find_place() -> Place:
    """Find it and, in version 2, make it ready. Raises NoCgroup."""
    try:
        groups = Path("/proc/self/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError as error:
        raise NoCgroup(f"this system has no control groups ({error.strerror})") from error
    place = locate(groups, mounts)
    return prepare(place.folders["memory"]) if place.version == "v2" else place


def locate(groups: str, mounts: str) -> Place:
    """Find this process's own groups. groups: /proc/self/cgroup; mounts: /proc/self/mountinfo. Raises NoCgroup."""
    mounted = list(_mounts(mounts))
    first = {name: folder for name in CONTROLLERS if (folder := _folder(name, groups, mounted))}
    if first.keys() >= REQUIRED:
        return Place("v1", first)
    folder = _folder("", groups, mounted)
    if folder is None:
        raise NoCgroup("no control groups are mounted here")
    return Place("v2", dict.fromkeys(CONTROLLERS, folder))


def _folder(controller: str, groups: str, mounted: list[_Mount]) -> Path | None:
    """Return the folder of this process's group, or None. controller: one of version 1, or "" for version 2."""
    for line in groups.splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return next((folder for mount in mounted if (folder := _seen_at(path, mount, controller))), None)
    return None


def _seen_at(path: str, mount: _Mount, controller: str) -> Path | None:
    """Return where the group `path` is in that mount; None for another hierarchy, or a group that is not seen there."""
    if mount.version != ("v1" if controller else "v2") or (controller and controller not in mount.controllers):
        return None
    if path.startswith("/.."):
        return None  # above the root of a cgroup namespace
    relative = os.path.relpath(path, mount.root)
    return None if relative.startswith("..") else Path(mount.folder, relative)


def _mounts(mounts: str) -> Iterable[_Mount]:
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, folder, *_ = before.split(" ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            yield _Mount(root, _plain(folder), "v1", frozenset(options.split(",")))
        elif kind == "cgroup2":
            yield _Mount(root, _plain(folder), "v2", frozenset())


def _plain(path: str) -> str:
    """Return a path as it was before the kernel wrote spaces and the like as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def prepare(own: Path) -> Place:
    """Make the group of this process give its controllers to groups below it. Raises NoCgroup.

    own: its folder in the hierarchy of version 2, or the leaf that an earlier gateway moved itself to.
    """
    parent = own.parent if own.name == LEAF else own
    try:
        has = set((parent / "cgroup.controllers").read_text().split())
        if not has >= REQUIRED:
            raise NoCgroup(f"the control group {parent} has no controllers for memory and pids")
        wanted = [name for name in CONTROLLERS if name in has]
        if not _gives(parent).issuperset(wanted):
            _vacate(parent)
            for name in wanted:
                (parent / "cgroup.subtree_control").write_text(f"+{name}")
    except NoCgroup:
        raise
    except OSError as error:
        raise NoCgroup(f"the control group {parent} is not given to this user ({error.strerror})") from error
    return Place("v2", dict.fromkeys(wanted, parent))


def _gives(folder: Path) -> set[str]:
    return set((folder / "cgroup.subtree_control").read_text().split())


def _vacate(folder: Path) -> None:
    """Move the processes of this gateway to a leaf. Raises NoCgroup if others are there: they are not ours to move."""
    if not (folder / "cgroup.type").exists():
        return  # the root of the hierarchy may hold processes
    leaf = folder / LEAF
    for _ in range(_MOVES):  # again, since it may be starting others at this moment
        present = _processes(folder)
        if others := set() if _is_delegated(folder) else present - _family():
            raise NoCgroup(f"other processes are in the control group {folder}: {sorted(others)}")
        if not present:
            return
        leaf.mkdir(exist_ok=True)
        for pid in present:
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(str(pid))


def _is_delegated(folder: Path) -> bool:
    """Return whether systemd gave away the whole group with all that it started in it (`Delegate=yes`, systemd 251)."""
    try:
        return os.getxattr(folder, "user.delegate") == b"1"
    except (OSError, AttributeError):
        return False


def _processes(folder: Path) -> set[int]:
    return {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}


def _family() -> set[int]:
    me = psutil.Process()
    return {me.pid, *(child.pid for child in me.children(recursive=True))}
