"""What sharing is made of: a way out to the world (a tunnel), what it leads to, and what is known of both."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import quote

import psutil
from msgspec import Struct

from app.errors import TunnelFailed


class State(StrEnum):
    """OFF: nothing is shared. RECONNECTING: the tunnel broke and is opened anew. FAILED: `error` says why."""

    OFF = "off"
    STARTING = "starting"
    ON = "on"
    RECONNECTING = "reconnecting"
    FAILED = "failed"


class Status(Struct, frozen=True):
    """All that is known of the sharing. kind: of the tunnel, "ngrok" or "ssh".

    url: where the tunnel ends, or ended until it broke; no slash at its end. models: names that are shared.
    open_to_all: whether a prediction needs no key. warning: what may keep others from the URL though the tunnel stands.
    error: problem document of what failed, or of what broke the tunnel that is being opened again.
    """

    state: State
    kind: str
    url: str = ""
    models: tuple[str, ...] = ()
    open_to_all: bool = False
    since: str = ""
    warning: str = ""
    error: dict[str, Any] | None = None

    def public_url(self, name: str) -> str | None:
        """Where others ask the model for predictions; None unless it is shared and the tunnel stands."""
        return predict_url(self.url, name) if self.is_on and name in self.models else None

    @property
    def is_on(self) -> bool:
        return self.state is State.ON


class Worker(Struct, frozen=True):
    """The process that holds a tunnel, so that a later server knows it again.

    id: "<pid>:<start time>". command: its command line.
    """

    id: str
    command: tuple[str, ...]


class Connection(Protocol):
    """A tunnel that stands. url: where it ends, without a slash at its end."""

    url: str
    warning: str

    async def broken(self) -> TunnelFailed:
        """Wait until it stands no more; returns why."""

    async def close(self) -> None: ...


class Tunnel(Protocol):
    """A way from the internet to a port of this machine's loopback."""

    kind: str

    async def open(self, port: int, on_worker: OnWorker) -> Connection:
        """on_worker is told of the process that will hold the tunnel, as soon as it runs.

        Raises TunnelFailed, and has left nothing behind then.
        """


class OnWorker(Protocol):
    async def __call__(self, worker: Worker) -> None: ...


class PublicSurface(Protocol):
    """What answers at the end of the tunnel, on a listener of its own: predictions of the shared models alone."""

    open_to_all: bool

    def share(self, name: str) -> None: ...

    def unshare(self, name: str) -> None: ...

    async def open(self) -> int:
        """Listen; returns the port. Does nothing more when it is open already."""

    async def close(self) -> None: ...


class NewKey(Struct, frozen=True):
    """key: told once, to who asked for it."""

    id: str
    name: str
    key: str


class Processes(Protocol):
    """Processes by an identity that no later process shares (`app.runtime.process.tree`)."""

    def identity(self, pid: int) -> str: ...

    def find(self, identifier: str) -> psutil.Process | None: ...


def predict_url(url: str, name: str) -> str:
    return f"{url}/models/{quote(name)}/predict"
