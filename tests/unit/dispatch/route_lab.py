"""Replicas that never finish a handshake."""

from __future__ import annotations

import asyncio
from pathlib import Path

from model_container.contract import frames
from tests.fakes import FakeReplica


class HangingReplica(FakeReplica):
    """A replica that welcomes nobody until it may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()
        self.may_welcome = asyncio.Event()

    async def _answer(self, frame: frames.Frame, writer: asyncio.StreamWriter) -> None:
        if frame.kind == frames.HELLO:
            self.asked.set()
            await self.may_welcome.wait()
        await super()._answer(frame, writer)
