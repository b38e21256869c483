"""The application that `uvicorn app.main:app` serves.

uvicorn's own command chooses the address and the protocol class; predictions then take the routes of FastAPI.
"""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Callable
from types import FrameType

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from app.errors import PrismError
from app.gateway import Gateway
from app.prepare import prepare
from app.settings import Settings


class Foreground:
    """An ASGI application that is created when its server starts it; until then nothing is read or written."""

    def __init__(self, create_app: Callable[[Settings], FastAPI]) -> None:
        self._create_app = create_app
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run(scope, receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        else:
            raise RuntimeError(
                "PRISM needs uvicorn's lifespan events to start and stop: run uvicorn without `--lifespan off`."
            )

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Create the application and serve its lifespan. Reports a PrismError at the start in one sentence."""
        has_started = False

        async def send_but_failure(message: Message) -> None:
            """Drop Starlette's message about a failed start, whose reason is a traceback; `_run` sends its own."""
            nonlocal has_started
            has_started = has_started or message["type"] == "lifespan.startup.complete"
            if message["type"] != "lifespan.startup.failed":
                await send(message)

        try:
            self._app = self._create_app(prepare())
            end_streams_at_signals(self._app.state.system)
            await self._app(scope, receive, send_but_failure)
        except Exception as error:
            if has_started:
                raise
            reason = f"prism: {error}" if isinstance(error, PrismError) else traceback.format_exc()
            await send({"type": "lifespan.startup.failed", "message": reason})


def end_streams_at_signals(system: Gateway) -> None:
    """End streams as soon as uvicorn is told to stop: it waits for all answers before it ends the lifespan."""
    loop = asyncio.get_running_loop()

    def add_to(number: signal.Signals) -> None:
        uvicorns = signal.getsignal(number)

        def stop(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(system.end_streams)
            if callable(uvicorns):
                uvicorns(number, frame)

        signal.signal(number, stop)

    add_to(signal.SIGTERM)
    add_to(signal.SIGINT)
