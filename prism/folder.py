"""Upload of folders: a model's as one file, a zip archive created when it is sent, and one of code file by file."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prism.errors import InvalidRequest

LEFT_OUT = frozenset({"__pycache__", "node_modules", "__MACOSX"})
KEPT = ".python-version"
"""The only file uploaded among those whose name begins with a dot, because it says something about the model."""

BLOCK_BYTES = 1 << 20
OUTER_FOLDERS = 3
"""How many folders are named in front of a code file that is not below the current one."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Timestamp of every archive member, so that the same files give the same archive."""


@contextmanager
def zipped(folder: Path) -> Iterator[IO[bytes]]:
    """Zip the folder to a temporary file, open for reading and deleted after the block.

    Raises InvalidRequest for a link that leads out of the folder.
    """
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(files(folder)):
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o100644 << 16
                entry.file_size = path.stat().st_size  # decides whether the member needs ZIP64, for more than 4 GiB
                with path.open("rb") as reading, archive.open(entry, "w") as writing:
                    while block := reading.read(BLOCK_BYTES):
                        writing.write(block)
        file.seek(0)
        yield file


def files(folder: Path) -> Iterator[Path]:
    """Yield all files in the folder except caches and hidden ones. Links to files within it are followed.

    Raises InvalidRequest for a link that leads out of it.
    """
    root = folder.resolve()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if name in LEFT_OUT or (name.startswith(".") and name != KEPT):
                continue
            if not path.resolve().is_relative_to(root):
                raise InvalidRequest(f"{path} leads out of {folder}.", hint="Put the file itself into the folder.")
            yield path


def code_parts(code: str | os.PathLike[str] | IO[bytes]) -> Iterator[tuple[str | os.PathLike[str] | IO[bytes], str]]:
    """Yield the Python files of a file or folder, each with the path by which it may be imported: `src/features.py`.

    Raises InvalidRequest for a folder without any.
    """
    if not isinstance(code, (str, os.PathLike)):
        yield code, os.path.basename(str(getattr(code, "name", "")) or "code.py")
        return
    place = Path(code)
    found = [path for path in sorted(files(place)) if path.suffix == ".py"] if place.is_dir() else [place]
    if not found:
        raise InvalidRequest(f"{place} holds no Python file.", hint="Name the folder that your model imports from.")
    top = _import_path(place)
    for path in found:
        yield path, (top / path.relative_to(place)).as_posix() if place.is_dir() else top.as_posix()


def _import_path(place: Path) -> Path:
    """Return the path below the current folder; for what is elsewhere, the end of its path."""
    whole = Path(os.path.abspath(place))
    if whole.is_relative_to(Path.cwd()):
        return whole.relative_to(Path.cwd())
    return Path(*whole.parts[1:][-OUTER_FOLDERS - 1 :])
