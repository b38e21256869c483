"""The control group of work that may only run where nothing else wants the processor, e.g. the readers of artifacts.

A niceness is not enough: Linux lets who runs finish its slice before it runs who wakes up, and schedules sessions as
groups of equal weight. Members of a group that is idle (`cpu.idle`, Linux 5.15) are put aside at once for any other
process of the machine: linux/Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
from functools import cached_property
from pathlib import Path
from typing import Final

from app.runtime.cgroup_places import find_place

SHELL: Final = ("/bin/sh", "-c", 'unset PWD OLDPWD SHLVL; echo 0 2>/dev/null >"$0"; exec "$@"')
"""Joins the group whose `cgroup.procs` comes next, and becomes the command after it: the program itself would need a
tenth of a second of the processor to come so far."""


class BackgroundGroup:
    """A group below that of this process, by name. What is in it runs where nothing else does."""

    def __init__(self, name: str) -> None:
        self._name = name

    def command(self, command: list[str]) -> list[str]:
        """The same in the group, or as it is where no such group can be had. Blocks for less than a millisecond."""
        if self._folder is None:
            return command
        try:
            self._folder.mkdir(exist_ok=True)
            (self._folder / "cpu.idle").write_text("1")
        except OSError:
            return command
        return [*SHELL, str(self._folder / "cgroup.procs"), *command]

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
