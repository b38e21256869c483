"""Control groups of replicas on the process target: what a replica uses in all its processes, bounded by the kernel.

    <own group>/prism-<home>-<name>     one for each replica, in each hierarchy of version 1

The gateway makes a group before it starts a replica, and hands down its `cgroup.procs` held open: the runtime moves
itself into the group while nothing of the model has run yet. Its supervisor stays outside, and can tell the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from app.core.model import Limits
from app.runtime.process.cgroup_places import REQUIRED, NoCgroup, Place, find_place

_PERIOD_US = 100_000
_REMOVAL_SECONDS = 2.0
_MEMORY_FILES = {"v1": ("memory.oom_control", "memory.max_usage_in_bytes"), "v2": ("memory.events", "memory.peak")}


class Cgroup(Struct, frozen=True):
    """One replica's. version: "v1" or "v2". folders: of each controller."""

    version: str
    folders: dict[str, str]


class Handed(Struct, frozen=True):
    """Open descriptors of a group: `cgroup.procs` to join it by, and how often it ran out of memory, and its peak.

    -1 for what the kernel does not have.
    """

    join: tuple[int, ...] = ()
    kills: int = -1
    peak: int = -1

    def all(self) -> tuple[int, ...]:
        return tuple(descriptor for descriptor in (*self.join, self.kills, self.peak) if descriptor >= 0)


class Cgroups:
    """The control groups of one PRISM. home: its label. Everything here blocks for milliseconds."""

    def __init__(self, home: str) -> None:
        self._prefix = f"prism-{home}-"
        self._lock = threading.Lock()
        self._place: Place | None = None
        self.why_not = ""
        """The reason why there are no groups, known once one was asked for."""

    def make(self, name: str, limits: Limits) -> Cgroup | None:
        """Make a control group with these limits; None where none can be had."""
        with self._lock:
            place = self._known_place()
        if place is None:
            return None
        planned = {controller: folder / (self._prefix + name) for controller, folder in place.folders.items()}
        made = {
            controller: str(folder)
            for controller, folder in planned.items()
            if self._is_made(place.version, controller, folder, limits)
        }
        cgroup = Cgroup(place.version, made) if made.keys() >= REQUIRED else None
        for folder in {str(folder) for folder in planned.values()} - set(cgroup.folders.values() if cgroup else ()):
            _remove_folder(Path(folder))
        return cgroup

    def _known_place(self) -> Place | None:
        """Find the place for groups, once; again where there was none, e.g. as another process was in the group."""
        if self._place is None:
            try:
                self._place = find_place()
                self._sweep(self._place)
            except NoCgroup as error:
                self.why_not = str(error)
        return self._place

    def _is_made(self, version: str, controller: str, folder: Path, limits: Limits) -> bool:
        try:
            folder.mkdir(exist_ok=True)
            for file, value in _settings(version, controller, limits, folder):
                (folder / file).write_text(value)
        except OSError as error:
            self.why_not = f"{folder} cannot be made a control group with a limit ({error.strerror})"
            return False
        return True

    def _sweep(self, place: Place) -> None:
        """Remove what a gateway left that was killed; the kernel itself keeps those in which a replica lives."""
        for folder in set(place.folders.values()):
            for left in folder.glob(f"{self._prefix}*"):
                with contextlib.suppress(OSError):
                    left.rmdir()


def _settings(version: str, controller: str, limits: Limits, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, value) in the order to write them. Files that only some kernels have come where they are there."""
    memory, quota = str(limits.memory_mb << 20), round(limits.cpus * _PERIOD_US)
    if controller == "pids":
        yield "pids.max", str(limits.pids)
    elif controller == "cpu":
        if version == "v1":
            yield "cpu.cfs_period_us", str(_PERIOD_US)
            yield "cpu.cfs_quota_us", str(quota)
        else:
            yield "cpu.max", f"{quota} {_PERIOD_US}"
    elif version == "v1":
        yield "memory.limit_in_bytes", memory
        if (folder / "memory.memsw.limit_in_bytes").exists():
            yield "memory.memsw.limit_in_bytes", memory
    else:
        yield "memory.max", memory
        yield from (("memory.swap.max", "0"),) if (folder / "memory.swap.max").exists() else ()
        yield "memory.oom.group", "1"


@contextlib.contextmanager
def handed_down(cgroup: Cgroup | None) -> Iterator[Handed]:
    """Open the descriptors for a replica to be started, and close them here afterwards. Raises OSError."""
    if cgroup is None:
        yield Handed()
        return
    folders = list(dict.fromkeys(cgroup.folders.values()))
    with contextlib.ExitStack() as stack:

        def opened(path: Path, flags: int) -> int:
            descriptor = os.open(path, flags | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        join = tuple(opened(Path(folder, "cgroup.procs"), os.O_WRONLY) for folder in folders)
        memory = Path(cgroup.folders["memory"])
        kills, peak = (
            opened(memory / name, os.O_RDONLY) if (memory / name).exists() else -1
            for name in _MEMORY_FILES[cgroup.version]
        )
        yield Handed(join, kills, peak)


def remove(cgroup: Cgroup | None) -> None:
    """Remove a control group; one that is gone is fine. What still lives in it is killed."""
    for folder in dict.fromkeys(cgroup.folders.values() if cgroup else ()):
        _remove_folder(Path(folder))


def _remove_folder(folder: Path) -> None:
    """Remove the folder of a group. A process that has just ended still counts for a moment, which is waited for."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            _kill(folder)
            time.sleep(0.01)


def _kill(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            if int(pid) > 0:  # one of a pid namespace that is not seen from here
                os.kill(int(pid), signal.SIGKILL)
