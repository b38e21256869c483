"""Removes folders that a model, or what read one, could write to: however deep they are, and whatever may be read."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it; one that is gone is fine. Links are removed, not followed.

    Raises OSError for what cannot be removed, after all else is. What `shutil.rmtree` leaves costs a moment more:
    that goes down by recursion, and holds a file open for each level.
    """
    with suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if os.path.lexists(folder):
        _flatten(folder)
        folder.rmdir()


def _flatten(folder: Path) -> None:
    """Empty a folder. Each folder in it is emptied by moving its own up to the top: no path grows, nothing recurses."""
    folder.chmod(0o700)
    mark, moved = secrets.token_hex(4), 0
    error: OSError | None = None
    pending = [Path(entry.path) for entry in os.scandir(folder)]
    while pending:
        path = pending.pop()
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                continue
            path.chmod(0o700)
            for entry in list(os.scandir(path)):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)  # else it could not be moved
                    moved += 1
                    pending.append(Path(entry.path).rename(folder / f"{mark}-{moved}"))
                else:
                    os.unlink(entry.path)
            path.rmdir()
        except OSError as failed:
            error = error or failed
    if error is not None:
        raise error


def folder_size_bytes(folder: Path, *, own_only: bool = False) -> int:
    """Return the size of all files below a folder, 0 for none. Links count as links, vanished files not at all.

    A file with several names counts once; with own_only, only if all of them are below this folder.
    """
    total, folders, names = 0, [os.fspath(folder)], Counter[tuple[int, int]]()
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        names[status.st_dev, status.st_ino] += 1
                        present = names[status.st_dev, status.st_ino]
                        if present == (status.st_nlink if own_only else 1):
                            total += status.st_size
    return total
