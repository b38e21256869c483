"""Interfaces and records of sharing: tunnels, the public listener they lead to, and the status of both."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import quote

import psutil
from msgspec import Struct

from app.errors import TunnelFailed


class State(StrEnum):
    """State of the sharing.

    OFF: nothing is shared. RECONNECTING: the tunnel broke and is being reopened. FAILED: `error` says why.
    """

    OFF = "off"
    STARTING = "starting"
    ON = "on"
    RECONNECTING = "reconnecting"
    FAILED = "failed"


class Status(Struct, frozen=True):
    """Status of the sharing. kind: the kind of tunnel, "ngrok" or "ssh".

    url: the tunnel's public URL, or the last one while it is broken, without a trailing slash. models: the shared
    names. open_to_all: whether a prediction needs no key. warning: what may keep others from the URL although the
    tunnel is open. error: problem document of what failed, or of what broke a tunnel that is being reopened.
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
        """Return the model's public prediction URL; None unless the model is shared and the tunnel is open."""
        return predict_url(self.url, name) if self.is_on and name in self.models else None

    @property
    def is_on(self) -> bool:
        return self.state is State.ON


class Worker(Struct, frozen=True):
    """Process that holds a tunnel, recorded so that a later server can recognize it.

    id: "<pid>:<start time>". command: its command line.
    """

    id: str
    command: tuple[str, ...]


class Connection(Protocol):
    """Open tunnel. url: its public URL, without a trailing slash."""

    url: str
    warning: str

    async def broken(self) -> TunnelFailed:
        """Wait until the tunnel breaks; returns why."""

    async def close(self) -> None: ...


class Tunnel(Protocol):
    """Way from the internet to a port on this machine's loopback interface."""

    kind: str

    async def open(self, port: int, on_worker: OnWorker) -> Connection:
        """Open the tunnel. on_worker is called with the process that holds it as soon as that process runs.

        Raises TunnelFailed; nothing is left running then.
        """


class OnWorker(Protocol):
    async def __call__(self, worker: Worker) -> None: ...


class PublicSurface(Protocol):
    """Listener at the end of the tunnel. It serves only predictions of the shared models."""

    open_to_all: bool

    def share(self, name: str) -> None: ...

    def unshare(self, name: str) -> None: ...

    async def open(self) -> int:
        """Listen and return the port. Does nothing more if it is open already."""

    async def close(self) -> None: ...


class NewKey(Struct, frozen=True):
    """New API key. key: the key itself, shown only once, to the caller who requested it."""

    id: str
    name: str
    key: str


class Processes(Protocol):
    """Lookup of processes by an identity that no later process shares (`app.runtime.process.tree`)."""

    def identity(self, pid: int) -> str: ...

    def find(self, identifier: str) -> psutil.Process | None: ...


def predict_url(url: str, name: str) -> str:
    return f"{url}/models/{quote(name)}/predict"
