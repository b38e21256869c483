"""Opens a replica's Unix socket by file descriptor and not by name: the replica may own the folder that it lies in.

Such a replica could put a link to the engine's socket, or to another model's, in the place of its own. It would then
receive what is meant for the other, and have the gateway connect to any socket it likes.
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
    """The path is a link, is no socket, or belongs to somebody else."""


@contextmanager
def held(path: str, container: str = "") -> Iterator[str]:
    """Yield a path that leads to the socket that lay at `path`, even if something else takes that name.

    Connect at once.

    No link is followed at the path's end, and none behind the root of a container, where it would lead into this
    machine's files. Raises OSError.
    container: the id of the container whose process a path through /proc must lead to; its process number may have been
    reused.
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
        if inside:  # checked once its root is open: then the root was the container's too
            _check_container(inside[1], container)
        for parent in parents:
            folder = opened(parent, os.O_DIRECTORY | os.O_NOFOLLOW, folder)
        descriptor = opened(name, os.O_NOFOLLOW, folder)
        _check(os.fstat(descriptor), os.fstat(folder), path)
        yield f"/proc/self/fd/{descriptor}"


def _check_container(process: str, container: str) -> None:
    """Raise NotASocket unless the process belongs to the container.

    Engines put the container's id into the name of its control group.
    """
    with open(f"{process}/cgroup") as file:
        if container not in file.read():
            raise NotASocket(f"{process} is not the container {container[:12]}")


def _check(status: os.stat_result, folder: os.stat_result, path: str) -> None:
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != folder.st_uid:
        raise NotASocket(f"{path} is not the socket that was made there")
