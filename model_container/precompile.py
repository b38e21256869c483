"""Compiler of a folder's Python files, run in a sandbox because the files are written by the packages' authors.

    python -I -S -B precompile.py <folder>

Compiling executes none of the code, but the compiler may have bugs. The process gets no network and may write only to
that folder. Folders named `tests` are skipped: they are up to half of a library's code and no model imports them.
"""

from __future__ import annotations

import compileall
import os
import sys
from typing import Iterator, List

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from model_container.contract.config import Confinement
from model_container.sandbox.confine import confine

_LEFT_OUT = ("tests", "__pycache__")
_WORKERS = 8
_MEMORY_MB, _FILE_MB = 2048, 256


def main(folder: str) -> int:
    """Compile every file in `folder`. Returns 0 if all of them compiled, otherwise 1."""
    folder = os.path.realpath(folder)
    confine(
        Confinement(
            namespaces=True,
            readable=[os.path.dirname(os.path.realpath(__file__))],
            writable=[folder],
            memory_mb=_MEMORY_MB,
            pids=4 * _WORKERS,
            file_mb=_FILE_MB,
        )
    )
    files = list(_sources(folder))
    workers = min(_WORKERS, os.cpu_count() or 1)
    # Fork directly: the worker pool of `compileall` uses a socket, and the sandbox allows no connections.
    children = [_fork(files[share::workers]) for share in range(workers)]
    return int(any([os.waitpid(child, 0)[1] for child in children]))


def _sources(folder: str) -> Iterator[str]:
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in _LEFT_OUT]
        yield from (os.path.join(parent, name) for name in files if name.endswith(".py"))


def _fork(files: List[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = int(not all([compileall.compile_file(file, quiet=2) for file in files]))
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
