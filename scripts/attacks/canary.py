"""What shows that code of an artifact ran outside the sandbox: files that it would write, a port that it would reach."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class Canary:
    """A folder open to every user, and a listener on loopback. Whatever comes to either is a breach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections = 0
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections += 1
            connection.close()

    def signs(self) -> tuple[str, ...]:
        """What has come so far."""
        files = tuple(f"{file.name} was written outside the sandbox" for file in sorted(self.folder.iterdir()))
        reached = (f"{self._connections} connections left the sandbox",) if self._connections else ()
        return files + reached

    def command(self, name: str) -> str:
        """A shell command that leaves a file with the environment in which it ran."""
        return f"env > {self.folder}/{name}"

    def code(self, name: str) -> str:
        """The same as Python."""
        return f"import os; open({str(self.folder / name)!r}, 'w').write(repr(dict(os.environ)))"
