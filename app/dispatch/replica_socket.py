"""A replica's Unix socket, held by what it is and not by its name: a replica may own the folder it lies in.

One that puts a link to the engine's socket, or to another model's, in the place of its own would else be handed what is
meant for it, and have the gateway speak to whom it likes.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_IN_A_CONTAINER = re.compile(r"(/proc/[0-9]+)(/root)/(.+)")


class NotASocket(OSError):
    """What lies there is a link, or no socket, or somebody else's."""


@contextmanager
def held(path: str, container: str = "") -> Iterator[str]:
    """A path to connect to at once: of the socket that lay there, whatever takes its name now. Raises OSError.

    No link is followed at its end, and none behind the root of a container, which would lead into this machine's.
    container: whose process a path through /proc must lead to; another may have got its number since.
    """
    if sys.platform != "linux":
        _check(os.lstat(path), os.stat(os.path.dirname(path)), path)
        yield path
        return
    with ExitStack() as stack:

        def opened(name: str, flags: int, folder: int | None = None) -> int:
            descriptor = os.open(name, flags | os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, descriptor)
            return descriptor

        inside = _IN_A_CONTAINER.fullmatch(path)
        start, rest = (inside[1] + inside[2], inside[3]) if inside else os.path.split(path)
        *parents, name = rest.split("/")
        folder = opened(start, os.O_DIRECTORY)
        if inside:  # asked once its root is held: then it was its own before, too
            _check_container(inside[1], container)
        for parent in parents:
            folder = opened(parent, os.O_DIRECTORY | os.O_NOFOLLOW, folder)
        found = opened(name, os.O_NOFOLLOW, folder)
        _check(os.fstat(found), os.fstat(folder), path)
        yield f"/proc/self/fd/{found}"


def _check_container(process: str, container: str) -> None:
    """An engine puts the id of the container into the name of its control group."""
    with open(f"{process}/cgroup") as file:
        if container not in file.read():
            raise NotASocket(f"{process} is not the container {container[:12]}")


def _check(found: os.stat_result, folder: os.stat_result, path: str) -> None:
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != folder.st_uid:
        raise NotASocket(f"{path} is not the socket that was made there")
