"""Folders for the Unix sockets of containers, one each, so that a container sees no other's."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from app.errors import StartFailed
from app.runtime.docker_container import SOCKET_NAME, runtime_user
from app.runtime.docker_engine import Engine

MAX_PATH_BYTES = 100  # 108 on Linux, with the final zero


class Sockets:
    """folder: a short path."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder
        self._engine = engine

    async def make(self, token: str) -> Path | None:
        """For one replica: its user may write to it and, but for root, nobody else may look into it."""
        folder = self._folder / token
        if len(os.fsencode(folder / SOCKET_NAME)) > MAX_PATH_BYTES:
            return None
        if not await self._engine.shares_this_machine():
            return None
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = self._folder.lstat()
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise PermissionError(errno.EPERM, "it is open to other users")
            folder.mkdir(mode=0o700)
            if os.getuid() == 0:
                os.chown(folder, *runtime_user())
        except OSError as error:
            raise StartFailed(
                f"The sockets of replicas cannot be kept in {self._folder}: {error.strerror}.",
                hint=f"Remove {self._folder}, or make it yours with mode 0700.",
            ) from error
        return folder

    def remove(self, socket: str) -> None:
        """The socket, and the folder that was made for it."""
        if socket and Path(socket).parent.parent == self._folder:
            shutil.rmtree(Path(socket).parent, ignore_errors=True)
