"""Changes config.yaml: one command at a time, and the file is whole at every moment."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.config.reading import read_text
from app.core.atomic_file import write_atomic
from app.errors import Conflict

PATIENCE_SECONDS: Final = 10.0
"""Longest wait for another command, which needs milliseconds; every user who can read the folder could hold the lock."""

_POLL_SECONDS: Final = 0.02


def change(path: Path, edit: Callable[[str | None], str | None]) -> None:
    """Write what `edit` makes of the file's text; None is no file. No other command changes it meanwhile.

    Raises Conflict if one takes too long, or if a program that takes no lock has changed the file.
    """
    file = path.resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.parent):
        before = read_text(path)
        after = edit(before)
        if after is None or after == before:
            return
        if read_text(path) != before:
            raise changed_meanwhile(path)
        _write(file, after)


def changed_meanwhile(path: Path) -> Conflict:
    return Conflict(f"{path} was changed by another program meanwhile.", hint="Run the command again.")


def _write(file: Path, text: str) -> None:
    """Write the file, readable by its owner only, who stays the same if root writes."""
    owner = next(place for place in (file, *file.parents) if place.exists()).stat()
    write_atomic(file, text.encode())
    if os.geteuid() == 0:
        os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder rather than the file, which is replaced by each change."""
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise Conflict(
                        f"Another command has been changing the settings in {folder} for {PATIENCE_SECONDS:.0f} s.",
                        hint="Wait for its end, or end it, and run this command again.",
                    ) from error
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(lock)
