"""Installs what a lock lists into a folder laid out like a virtual environment, but without a Python of its own.

The same for both targets: what a package brings can then be imported, and nothing of it takes part in starting a
Python. Nothing of it is run here either, as only wheels are installed.
"""

from __future__ import annotations

import asyncio
import platform as machine
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from app.core.environment import Lock
from app.errors import BuildFailed
from app.runtime.packages import torch_backend
from app.runtime.packages.audit import check, site_packages
from app.runtime.packages.resolver import uv_platform
from app.runtime.packages.uv import run_uv
from app.runtime.target import Log

ATTEMPTS = 4
PAUSE_SECONDS = 1.0
"""Pause before the second attempt; each further one is twice as long."""

_NOT_LISTED = re.compile(r"there is no version of", re.IGNORECASE)


async def install(lock: Lock, folder: Path, python: str, log: Log, timeout_seconds: float) -> None:
    """Install the packages of `lock` in `folder`, hard-linked to uv's cache where it is on the same disk.

    python: the base interpreter of this machine that they are for.
    Raises BuildFailed with the installer's telling lines, and for packages that reach for the start of a Python.
    Programs that packages bring are left out: their first line names a Python of this machine.
    """
    await _install(lock, folder, ["--python", python], log, timeout_seconds)
    await asyncio.to_thread(_finish, folder, lock.python, lock.python)


async def install_for_container(lock: Lock, folder: Path, log: Log, timeout_seconds: float) -> None:
    """Install as `install` does, but for a container: another system, maybe a Python that this machine lacks."""
    arguments = ["--python", sys.executable, "--python-version", lock.python]
    arguments += ["--python-platform", uv_platform("linux", machine.machine())]
    await _install(lock, folder, arguments, log, timeout_seconds)
    await asyncio.to_thread(_finish, folder, "{}.{}".format(*sys.version_info[:2]), lock.python)


async def _install(lock: Lock, folder: Path, python: Sequence[str], log: Log, timeout_seconds: float) -> None:
    await asyncio.to_thread(_prepare, folder)
    # Wheels only: building a source distribution would run its author's code here, outside any sandbox.
    arguments = ["pip", "sync", "--prefix", str(folder), "--only-binary", ":all:", *python]
    arguments += torch_backend.install_arguments(lock)
    deadline = monotonic() + timeout_seconds
    for attempt in range(1, ATTEMPTS + 1):
        left_seconds = deadline - monotonic()
        try:
            await run_uv([*arguments, "-"], log=log, timeout_seconds=left_seconds, error=BuildFailed, stdin=lock.text)
            return
        except BuildFailed as failure:
            # The index listed each version when the lock was made. Mirrors of an index get a new release one after
            # another, so a page from another mirror, or from uv's cache, may still lack it.
            pause_seconds = PAUSE_SECONDS * 2 ** (attempt - 1)
            is_last = attempt == ATTEMPTS or monotonic() + pause_seconds >= deadline
            if is_last or not _NOT_LISTED.search(failure.detail):
                raise
        log("The index listed that version before; asking it again.")
        await asyncio.sleep(pause_seconds)
        arguments = [*arguments, "--refresh"] if attempt == 1 else arguments


def _prepare(folder: Path) -> None:
    """Make `lib` and `lib64` as a virtual environment has them: some systems keep compiled packages in `lib64`."""
    (folder / "lib").mkdir(parents=True)
    (folder / "lib64").symlink_to("lib")


def _finish(folder: Path, installer: str, python: str) -> None:
    """Refuse what must not be there, and leave out what is of no use. installer, python: minors, of the Python that
    the installer laid the folder out for and of the one that it is for."""
    site_packages(folder, installer).mkdir(parents=True, exist_ok=True)
    try:
        site_packages(folder, installer).parent.rename(site_packages(folder, python).parent)
    except OSError as error:
        raise BuildFailed(f"A package brings files of its own in lib/python{python}.") from error
    check(folder, python)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)
