"""Compiles packages ahead of their first import: a replica may not write beside them, and would compile at each start.

    <cache>/<key>/    bytecode of a part of a folder, by the content of its sources and the Python that compiled them

A second environment with the same packages links what the first one compiled. A part is a large package, or all the small
ones of a folder together. The compiler sees one part at a time and writes to no other: should a hostile source make it
misbehave, what it leaves is found only by who brings the very same sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from app.core.child_environment import child_environment
from app.runtime.interpreter import PACKAGE, isolated

LARGE = 100
"""The number of files from which a package is a part of its own."""

LEFT_OUT = ("tests", "__pycache__")
"""Folders that no model imports; those named `tests` are up to half of a library's code."""

UNFINISHED = "unfinished-"
ABANDONED_SECONDS = 3600

Part = dict[str, bytes]
"""The digests of the sources of a part by their paths in the folder."""


def compile_folder(python: str, folder: Path, cache: Path, timeout_seconds: float) -> bool:
    """Compile the packages in a folder and return whether that was done; what was not is only slower to import.

    Blocks. Raises OSError.
    """
    # Whoever removes an environment may remove a part just before it is linked; then it is compiled once more.
    return all(
        any(_compile_part(python, folder, part, cache, timeout_seconds) for _ in range(2)) for part in _parts(folder)
    )


def remove_unused(cache: Path) -> None:
    """Remove the parts that no environment links any more, and what a build that was killed left."""
    for entry in cache.glob("*"):
        with suppress(FileNotFoundError):  # somebody else removes it, too
            being_made = entry.name.startswith(UNFINISHED) and time.time() - entry.stat().st_mtime < ABANDONED_SECONDS
            if not being_made and all(file.stat().st_nlink == 1 for file in _bytecode(entry)):
                shutil.rmtree(entry)


def _parts(folder: Path) -> list[Part]:
    packages: dict[str, Part] = {}
    for source in _sources(folder):
        path = source.relative_to(folder)
        packages.setdefault(path.parts[0], {})[str(path)] = hashlib.sha256(source.read_bytes()).digest()
    small = {path: digest for part in packages.values() if len(part) < LARGE for path, digest in part.items()}
    return [part for part in (small, *packages.values()) if part and (part is small or len(part) >= LARGE)]


def _sources(folder: Path) -> Iterator[Path]:
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in LEFT_OUT]
        yield from (path for name in files if name.endswith(".py") and not (path := Path(parent, name)).is_symlink())


def _compile_part(python: str, folder: Path, part: Part, cache: Path, timeout_seconds: float) -> bool:
    entry = cache / _key(python, part)
    if not entry.is_dir():
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=cache))
        try:
            if not _run_compiler(python, folder, part, unfinished, timeout_seconds):
                return False
            with suppress(OSError):  # somebody else was faster
                unfinished.rename(entry)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return _link(entry, folder, part)


def _key(python: str, part: Part) -> str:
    interpreter = os.path.realpath(python)
    digest = hashlib.sha256(f"{interpreter}\0{os.stat(interpreter).st_mtime_ns}\0".encode())
    for path in sorted(part):
        digest.update(hashlib.sha256(os.fsencode(path)).digest() + part[path])
    return digest.hexdigest()[:32]


def _run_compiler(python: str, folder: Path, part: Part, destination: Path, timeout_seconds: float) -> bool:
    """Run the compiler in a sandbox of its own, where it may read the folder and write to nothing but `destination`."""
    try:
        done = subprocess.run(
            isolated(python, PACKAGE / "precompile.py", str(folder), str(destination)),
            input=os.fsencode("\0".join(sorted(part))),
            capture_output=True,
            timeout=timeout_seconds,
            env=child_environment(),
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _bytecode(entry: Path) -> Iterator[Path]:
    """Yield the files that the compiler left, which is trusted no further: neither links nor devices."""
    for parent, _, files in os.walk(entry):
        yield from (path for name in files if stat.S_ISREG(os.lstat(path := Path(parent, name)).st_mode))


def _link(entry: Path, folder: Path, part: Part) -> bool:
    """Link the bytecode of the part's sources beside them. Returns False if the part was removed meanwhile."""
    for compiled in _bytecode(entry):
        path = compiled.relative_to(entry)
        source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
        if path.parent.name == "__pycache__" and str(source) in part and not _place(compiled, folder / path):
            return False
    return entry.is_dir()


def _place(compiled: Path, place: Path) -> bool:
    """Link a file, or copy it from another disk; what is in its place stays. Returns False if the file is gone."""
    try:
        place.parent.mkdir(exist_ok=True)
        os.link(compiled, place)
    except (FileExistsError, NotADirectoryError):  # the package brought it
        return True
    except FileNotFoundError:
        return False
    except OSError:
        shutil.copyfile(compiled, place)
    return True
