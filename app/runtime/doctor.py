"""Finds what this machine has and lacks for running models, and the fix, for `prism doctor` and the pages.

Everything here blocks: for a moment, or three seconds where an engine does not answer.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.runtime.process.sandbox_check import Lent
    from app.settings import Settings

LEAST_DISK_BYTES = 1_000_000_000
"""Too little for one environment with scikit-learn and its copy while it is built."""
AMPLE_DISK_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Check:
    """One finding, and how to fix it.

    fail: something needed does not work. warn: it works, but less well or less safely than it could.
    """

    level: Literal["ok", "warn", "fail"]
    name: str
    result: str
    fix: str = ""


def uv(settings: Settings) -> Check:
    from uv import find_uv_bin

    try:
        return Check("ok", "uv", find_uv_bin())
    except FileNotFoundError as error:
        return Check("fail", "uv", str(error), f"{sys.executable} -m pip install uv")


def interpreters(settings: Settings) -> Check:
    from app.runtime.packages.uv import find_interpreters

    pythons = asyncio.run(find_interpreters())
    listed = ", ".join(pythons) or "none"
    if not pythons:
        return Check("fail", "pythons", "none that can run a model's environment", "Install Python 3.11.")
    return Check("ok", "pythons", f"models without Docker can use {listed}")


def engine(settings: Settings) -> Check:
    from app.runtime.docker.engine import engine_version
    from app.runtime.targets import allowed_targets

    if "docker" not in allowed_targets(settings):
        return Check("ok", "docker engine", f"not needed: PRISM_TARGET={settings.target}")
    try:
        version = engine_version()
    except OSError as error:
        reason = str(error).splitlines()[0]
        if settings.target == "docker":
            return Check("fail", "docker engine", reason, "Start the Docker engine, or unset PRISM_TARGET.")
        fix = "Models run as processes. For containers, install and start a Docker engine you may use."
        return Check("warn", "docker engine", f"none answers ({reason})", fix)
    return Check("ok", "docker engine", f"{version}; models run in containers")


def gpu(settings: Settings) -> Check:
    """Look for a GPU that the engine offers. To have none is no fault: most models need none."""
    from app.runtime.docker.engine import engine_info
    from app.runtime.docker.gpu import offered
    from app.runtime.targets import allowed_targets

    if "docker" not in allowed_targets(settings):
        return Check("ok", "gpu", f"none for models: PRISM_TARGET={settings.target} gives them no devices")
    try:
        gpus = offered(engine_info())
    except OSError:
        return Check("ok", "gpu", "none for models: only containers get GPUs, and no engine answers")
    if gpus:
        return Check("ok", "gpu", f"the engine offers {gpus}")
    return Check("ok", "gpu", "the engine shows none; models with `gpu` need the NVIDIA Container Toolkit there")


def isolation(settings: Settings) -> Check:
    """Find out how far the process target is closed, also where Docker is there: the target can be chosen."""
    from app.runtime.process.cgroup_places import FIX
    from app.runtime.process.sandbox_check import probe_sandbox

    with survey_group() as (group, why_not):
        closed = probe_sandbox(group=group)
    areas = {
        "network": "network",
        "files": "files",
        "processes": "other processes",
        "syscalls": "system calls",
        "memory": "memory",
    }
    shut = [title for area, title in areas.items() if closed.get(area)]
    open_ = [title for area, title in areas.items() if not closed.get(area)]
    summary = f"isolated: {', '.join(shut) or 'nothing'}" + (f"; not isolated: {', '.join(open_)}" if open_ else "")
    bounds = closed["details"]["report"].get("bounds", {})
    summary += "".join(f"; {what} by {holder}" for what, holder in bounds.items())
    summary += f" ({why_not})" if why_not else ""
    if not open_:
        return Check("ok", "process target", summary, FIX if why_not else "")
    fix = "Without Docker, serve only models you trust, or use a kernel with user namespaces, Landlock and seccomp."
    return Check("warn", "process target", summary, fix)


@contextmanager
def survey_group() -> Iterator[tuple[Lent, str]]:
    """Lend a control group as a replica gets it, or say why there is none."""
    from app.core.model import Limits
    from app.runtime.process.cgroups import Cgroups, handed_down, remove
    from app.runtime.process.replica_end import Outside
    from app.runtime.process.sandbox_check import MEMORY_MB, Lent

    cgroups = Cgroups(f"doctor{os.getpid()}-{secrets.token_hex(4)}")  # two may look at the same time
    cgroup = cgroups.make("survey", Limits(memory_mb=MEMORY_MB, pids=64))
    try:
        with handed_down(cgroup) as handed:
            yield Lent(Outside(cgroup, handed).fields(), handed.all()), cgroups.why_not
    finally:
        remove(cgroup)


def disk(settings: Settings) -> Check:
    from app.settings import variable

    folder = settings.upload_root
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    larger = f"set {variable('home')} to a larger disk"
    if not os.access(existing, os.W_OK):
        return Check("fail", "disk", f"{existing} cannot be written", f"Run `chown` on it, or {larger}.")
    level: Literal["ok", "warn", "fail"] = "ok" if free > AMPLE_DISK_BYTES else "warn"
    level = "fail" if free < LEAST_DISK_BYTES else level
    fix = "" if level == "ok" else f"Free some space, or {larger}."
    return Check(level, "disk", f"{free / 1e9:.1f} GB free for {folder}", fix)


EXAMINATIONS: tuple[Callable[[Settings], Check], ...] = (engine, gpu, isolation, interpreters, uv, disk)
"""The examinations that a running server can make of itself."""


async def examined(settings: Settings) -> list[Check]:
    """Run these examinations at the same time, each in a thread."""
    return await asyncio.gather(*(asyncio.to_thread(examine, settings) for examine in EXAMINATIONS))


def urgency(check: Check) -> int:
    """Return 0 for what fails, 1 for a warning, 2 for what is fine."""
    return ("fail", "warn", "ok").index(check.level)
