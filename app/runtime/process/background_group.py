"""The control group of work that may only run where nothing else wants the processor, e.g. the readers of artifacts.

A niceness is not enough: Linux lets who runs finish its slice before it runs who wakes up, and schedules sessions as
groups of equal weight. Members of a group that is idle (`cpu.idle`, Linux 5.15) are put aside at once for any other
process of the machine: linux/Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
from functools import cached_property
from pathlib import Path
from typing import Final

from app.runtime.process.cgroup_places import find_place

SHELL: Final = ("/bin/sh", "-c", 'unset PWD OLDPWD SHLVL; echo 0 2>/dev/null >"$0"; exec "$@"')
"""A shell that joins the group whose `cgroup.procs` comes next, and becomes the command after it. The program itself
would need a tenth of a second of the processor to come so far."""

_PATIENCE_NS: Final = 500_000_000
_WAITS_PER_RUN: Final = 4
_QUARTER_OF_A_SESSION: Final = {"cpu.shares": "256", "cpu.weight": "25"}
"""The files of versions 1 and 2 that set it, each in its own unit."""


class BackgroundGroup:
    """A group below that of this process, by name. What is in it runs where nothing else does."""

    def __init__(self, name: str) -> None:
        self._name = name

    def command(self, command: list[str]) -> list[str]:
        """Return the command so that it runs in the group, or as it is where none can be had. Blocks for under 1 ms."""
        if self._folder is None or not os.access(SHELL[0], os.X_OK):
            return command
        try:
            self._folder.mkdir(exist_ok=True)
            (self._folder / "cpu.idle").write_text("1")
        except OSError:
            return command
        return [*SHELL, str(self._folder / "cgroup.procs"), *command]

    def relieve(self) -> None:
        """Let the group compete where the machine leaves it next to nothing, until the next command. Blocks as above.

        A machine may be busy for hours; who waits for an upload should not.
        """
        if self._folder is None or not any(map(_starves, self._members())):
            return
        with contextlib.suppress(OSError):
            (self._folder / "cpu.idle").write_text("0")
            for name, value in _QUARTER_OF_A_SESSION.items():
                if (self._folder / name).exists():
                    (self._folder / name).write_text(value)

    def _members(self) -> list[str]:
        try:
            return (self._folder / "cgroup.procs").read_text().split() if self._folder else []
        except OSError:
            return []

    def remove(self) -> None:
        """Remove the group if it is empty; else the next gateway that gives it this name takes it over."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    @cached_property
    def _folder(self) -> Path | None:
        try:
            return find_place().folders["cpu"] / self._name
        except (OSError, KeyError):
            return None


def _starves(pid: str) -> bool:
    """Return whether a process has waited for a processor, and long compared with how long it had one.

    linux/Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat": nanoseconds that it ran, that it waited.
    """
    try:
        ran_ns, waited_ns, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/schedstat").exists()
    except OSError:  # as where /proc hides what others run
        return True
    is_known = ran_ns or waited_ns  # else this kernel does not account for it: rather compete than starve
    return not is_known or waited_ns > max(_PATIENCE_NS, _WAITS_PER_RUN * ran_ns)
