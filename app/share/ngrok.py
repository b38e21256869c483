"""Tunnel by ngrok. A worker process runs pyngrok and reports its progress in JSON lines."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from app.errors import TunnelFailed
from app.share.child import Child
from app.share.ngrok_errors import NgrokRefusal, failure
from app.share.tunnel import OnWorker, Processes

GRACE_SECONDS = 2
"""Extra time before the worker is killed: it keeps its own deadline and can report why it was late."""


class Event(Struct):
    url: str = ""
    error: str = ""
    detail: str = ""


class NgrokTunnel:
    """Tunnel by ngrok. token: of an ngrok account. folder: used by the worker alone, mode 0700."""

    kind = "ngrok"

    def __init__(self, token: str, folder: Path, processes: Processes, *, start_timeout_seconds: float) -> None:
        self._token = token.strip()
        self._folder = folder
        self._processes = processes
        self._timeout_seconds = start_timeout_seconds

    async def open(self, port: int, on_worker: OnWorker) -> NgrokConnection:
        if not self._token:
            raise failure(NgrokRefusal("no_token", ""))
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        own = {"NGROK_AUTHTOKEN": self._token, "TMPDIR": str(self._folder)}
        child = await Child.start(self.command(port), self._processes, own)
        try:
            await on_worker(child.worker)
            async with asyncio.timeout(self._timeout_seconds + GRACE_SECONDS):
                event = await self._next_event(child)
            if not event.url:
                raise self._failure(event)
            return NgrokConnection(self, child, event.url.rstrip("/"))
        except TimeoutError:
            await child.kill()
            raise failure(NgrokRefusal("too_slow", f"{self._timeout_seconds:g} s")) from None
        except BaseException:
            await child.kill()
            raise

    def command(self, port: int) -> tuple[str, ...]:
        words = (os.getpid(), port, self._timeout_seconds, self._folder)
        return (sys.executable, "-m", "app.share.ngrok_worker", *map(str, words))

    async def _next_event(self, child: Child) -> Event:
        """Return the worker's next event. Lines that are no event, such as a traceback, are skipped.

        The end of the output is returned as an event with error "ended".
        """
        async for line in child.lines():
            try:
                return msgspec.json.decode(line, type=Event)
            except msgspec.DecodeError:
                continue
        return Event(error="ended", detail=f"{child.last[-1] if child.last else 'it said nothing'}.")

    async def broken(self, child: Child) -> TunnelFailed:
        return self._failure(await self._next_event(child))

    def _failure(self, event: Event) -> TunnelFailed:
        """Convert an event to an error, with the token removed: it must never leave this file."""
        return failure(NgrokRefusal(event.error, event.detail.replace(self._token, "…")))


class NgrokConnection:
    warning = ""

    def __init__(self, tunnel: NgrokTunnel, child: Child, url: str) -> None:
        self.url = url
        self._tunnel = tunnel
        self._child = child

    async def broken(self) -> TunnelFailed:
        return await self._tunnel.broken(self._child)

    async def close(self) -> None:
        await self._child.kill()
