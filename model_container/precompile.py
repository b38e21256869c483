"""Compiles the Python files of a folder, behind walls: what it reads was written by whoever wrote the packages.

    python -I -S -B precompile.py <folder>

Compiling runs none of it, but a compiler may have faults. It gets no network, and may write to that folder alone.
Libraries bring their own tests, up to half of their code, which no model imports; these are left out.
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
    """0 if every file could be compiled."""
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
    # Forked by hand: the pool of `compileall` speaks over a socket that nothing may connect to in here.
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
