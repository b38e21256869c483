"""Fake replicas that answer when they are told to."""

from __future__ import annotations

import asyncio

from model_container.contract.frames import Answer, Request
from tests.fakes import echo


class Held:
    """A handler that answers once it is let."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, requests: list[Request]) -> list[Answer]:
        await self.release.wait()
        return await echo(requests)
