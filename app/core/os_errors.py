"""Translates refusals of the operating system for whoever asked: the one place where an OSError becomes a problem."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path
from typing import Any, Final

from app.errors import DiskFull, PrismError, StorageFailed, StorageReadOnly, TooManyOpenFiles

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
BROKEN: Final = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE)
NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
RETRY_AFTER_SECONDS: Final = 5

PURPOSES: Final = {
    "keys.json": "the API keys",
    "containers.json": "the registry",
    "catalog.db": "the catalog",
    "share.json": "the record of what is shared",
    "server.json": "the record by which `prism stop` finds the server",
    "model.json": "the record of a model",
    "replica.json": "the record of a replica",
    "build.log": "the log of a build",
    "artifact": "a model's file",
    "code": "a model's code",
    "accelerated": "a model's accelerated variant",
    "environments": "an environment",
    "uploads": "a model's folder",
    "run": "the folder of a replica",
    "logs": "the log of a replica",
}
"""The purpose of a file or folder by its name. Of several names in a path the first to match counts."""

FREE_SPACE: Final = (
    "Free some space, e.g. with `prism rm NAME` or `uv cache prune`, then try again. "
    "The settings page shows how much this server stores, and where."
)
WORDS: Final = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)")
"""The marks of an error number in the messages of Python (also within a `shutil.Error`) and of uv."""

SAID: Final = {
    "no space left on device": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "read-only file system": errno.EROFS,
    "too many open files": errno.EMFILE,
    "input/output error": errno.EIO,
}


def as_problem(error: Exception) -> PrismError:
    """Return the problem that tells of any exception. One that nobody foresaw is told by its type and message."""
    if isinstance(error, PrismError):
        return error
    known = problem_of(error) if isinstance(error, OSError) else None
    return known or PrismError(f"{type(error).__name__}: {error}")


def problem_of(error: OSError) -> PrismError | None:
    """Return the problem of an error of the storage or of file descriptors; None for any other error."""
    path = Path(error.filename) if isinstance(error.filename, str | Path) else None
    numbers = [error.errno] if error.errno else _numbers_told(str(error))
    return next((known for number in numbers if (known := _problem(number, path))), None)


def problem_in(words: str) -> PrismError | None:
    """Return the problem that another program met, by its last words; None where they tell of something else."""
    lowered = words.lower()
    by_text = [number for text, number in SAID.items() if text in lowered]
    return next((known for number in (*_numbers_told(words), *by_text) if (known := _problem(number, None))), None)


def log_fields(error: OSError) -> dict[str, Any]:
    """Return the fields of a log record on this error. They name the path, which a problem does not."""
    number = error.errno or next(iter(_numbers_told(str(error))), 0)
    return {"errno": errno.errorcode.get(number, str(number)), "path": str(error.filename or ""), "error": str(error)}


def purpose(path: Path | None) -> str:
    """Return what is kept at this path, in words that name no folder of this machine."""
    names = (path.name.lstrip("."), *reversed(path.parts[:-1])) if path is not None else ()
    for name in names:
        for known, meaning in PURPOSES.items():
            if name == known or name.startswith(f"{known}."):
                return meaning
    return "required data"


def _numbers_told(text: str) -> list[int]:
    return [int(python or uv) for python, uv in WORDS.findall(text)]


def _problem(number: int, path: Path | None) -> PrismError | None:
    what = purpose(path)
    if number in FULL:
        free = _free_bytes(path)
        room = {} if free is None else {"free_bytes": free}
        rest = "" if free is None else f" {free} bytes are free there."
        reason = "The disk is full" if number == errno.ENOSPC else "The quota of this server's user is used up"
        return DiskFull(f"{reason}: {what} could not be written.{rest}", hint=FREE_SPACE, **room)
    if number == errno.EROFS:
        hint = "Mount it for writing (a fault of the disk may have changed it: see the system's log), then try again."
        return StorageReadOnly(f"The disk is read-only: {what} could not be written.", hint=hint)
    if number in BROKEN:
        hint = "See the system's log (`dmesg`) for the disk's fault, and move the server's data to another disk."
        return StorageFailed(f"The disk failed: {what} could not be read or written.", hint=hint)
    if number in NO_DESCRIPTORS:
        hint = "Try again in a moment; raise the server's limit (`ulimit -n`, LimitNOFILE) if it happens again."
        return TooManyOpenFiles(
            f"Too many open files: {what} could not be opened.", retry_after_seconds=RETRY_AFTER_SECONDS, hint=hint
        )
    return None


def _free_bytes(path: Path | None) -> int | None:
    """Return the free space where this path was to be written; None where nobody said or the disk does not tell."""
    if path is None:
        return None
    for folder in path.parents:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None
