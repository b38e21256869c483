"""Writes files that are whole at every moment: a reader finds the old or the new text, also after a power cut."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_atomic(path: Path, content: bytes) -> None:
    """Write, fsync, rename, fsync the folder. The file is readable by its owner only.

    Raises an OSError that names the file. It is then as it was, or, where the fsync of its folder alone failed, there
    and not known to be safe from a power cut; `holds` tells which.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            _put(path, content)
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        error.filename = str(path)
        raise


def _put(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            os.replace(part.name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(part.name)
            raise


def holds(path: Path, content: bytes) -> bool:
    """Return whether a reader finds this content there. An unreadable file counts as one that holds it."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
    except OSError:
        return True
