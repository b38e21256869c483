"""Compiler of Python files, run in a sandbox because the files are written by the packages' authors.

    python -I -S -B precompile.py <folder> <destination> < paths of sources in the folder, separated by zero bytes

`a/b.py` becomes `<destination>/a/__pycache__/b.cpython-311.pyc`, which holds for that very content wherever it lies.
Compiling executes none of the code, but the compiler may have bugs. The process gets no network and may write only to
the destination.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import py_compile
import sys
from typing import List

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from model_container.contract.config import Confinement
from model_container.sandbox.confine import confine

_WORKERS = 8
_MEMORY_MB, _FILE_MB = 2048, 256


def main(folder: str, destination: str) -> int:
    """Compile the sources that standard input names. Returns 0 if each was tried; what is no Python is left out."""
    sources = os.fsdecode(sys.stdin.buffer.read()).split("\0")
    folder, destination = os.path.realpath(folder), os.path.realpath(destination)
    confine(
        Confinement(
            namespaces=True,
            readable=[os.path.dirname(os.path.realpath(__file__)), folder],
            writable=[destination],
            memory_mb=_MEMORY_MB,
            pids=4 * _WORKERS,
            file_mb=_FILE_MB,
        )
    )
    workers = min(_WORKERS, os.cpu_count() or 1)
    # Fork directly: the worker pool of `compileall` uses a socket, and the sandbox allows no connections.
    children = [_fork(folder, destination, sources[share::workers]) for share in range(workers)]
    return int(any([os.waitpid(child, 0)[1] for child in children]))


def _fork(folder: str, destination: str, sources: List[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for source in sources:
            _compile(folder, destination, source)
        code = 0
    finally:
        os._exit(code)


def _compile(folder: str, destination: str, source: str) -> None:
    compiled = importlib.util.cache_from_source(os.path.join(destination, source))
    with contextlib.suppress(py_compile.PyCompileError, ValueError, RecursionError, OSError):
        py_compile.compile(
            os.path.join(folder, source),
            compiled,
            source,  # put right by each import
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
