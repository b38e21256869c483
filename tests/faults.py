"""File operations of this very process that fail as an operating system's would: from the nth on, until lifted.

An audit hook sees every opening, also those of C code. What a file refuses while it is open, it refuses at its fsync.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MAKES = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate"}
REMOVES = {"os.remove", "os.rmdir", "os.chmod"}
OPENS = {"open", "os.scandir", "os.listdir"}
FSYNC = ("fsync", "pwrite", "ftruncate", "write")


class Faults:
    """Faults with `number` (an errno) below `folder`. met: operations that could have failed. failed: those that did."""

    def __init__(self, number: int, folder: Path, first: int) -> None:
        self.number = number
        self.met = self.failed = 0
        self._folder = str(folder)
        self._first = first

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = arguments[0] if arguments else None
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.fsdecode(path)
        if path.startswith(self._folder) and self._concerns(event, arguments):
            self._count(path)

    def write(self) -> None:
        if self.number != errno.EMFILE:
            self._count("")

    def connect(self) -> None:
        if self.number == errno.EMFILE:
            self._count("")

    def _concerns(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if self.number == errno.EMFILE:
            return event in OPENS
        writes = event == "open" and bool(int(arguments[2] or 0) & WRITES)
        if self.number == errno.ENOSPC:
            return event in MAKES or (writes and bool(arguments[2] & os.O_CREAT))
        return event in MAKES or event in REMOVES or writes

    def _count(self, path: str) -> None:
        self.met += 1
        if self.met >= self._first:
            self.failed += 1
            raise OSError(self.number, os.strerror(self.number), *([path] if path else []))


_current: Faults | None = None
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _current is not None and (event in MAKES or event in REMOVES or event in OPENS):
        _current.see(event, arguments)


@contextmanager
def failing(number: int, folder: Path, first: int) -> Iterator[Faults]:
    """first: the number of the first operation that fails, from 1; all after it fail too."""
    global _current, _hooked
    if not _hooked:
        sys.addaudithook(_hook)  # for good: it cannot be taken away, and does nothing without faults
        _hooked = True
    faults = _current = Faults(number, folder, first)
    real = {name: getattr(os, name) for name in FSYNC}

    def failing_too(name: str) -> Callable[..., Any]:
        def call(file: int, *more: Any) -> Any:
            if name != "write" or os.path.isfile(f"/proc/self/fd/{file}"):
                faults.write()
            return real[name](file, *more)

        return call

    make_socket = socket.socket.__init__

    def make_or_fail(self: socket.socket, *about: Any, fileno: int | None = None, **more: Any) -> None:
        if fileno is None:  # else it was accepted, by a replica
            faults.connect()
        make_socket(self, *about, fileno=fileno, **more)

    for name in FSYNC:
        setattr(os, name, failing_too(name))
    socket.socket.__init__ = make_or_fail  # type: ignore[method-assign]
    try:
        yield faults
    finally:
        socket.socket.__init__ = make_socket  # type: ignore[method-assign]
        for name, function in real.items():
            setattr(os, name, function)
        _current = None
