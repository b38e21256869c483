"""Makes requests wait for others, so that rows that arrive one at a time leave in one batch."""

from __future__ import annotations

import asyncio


class Coalescer:
    """Groups of requests by model. The first request of a group waits for others, for at most `wait_seconds`.

    A group leaves as soon as it has `most` requests. The lane of the model then finds all of them in one turn of the
    event loop, and sends them together.
    """

    def __init__(self, wait_seconds: float, most: int) -> None:
        self._wait_seconds = wait_seconds
        self._most = most
        self._groups: dict[str, _Group] = {}

    async def gather(self, ref: str) -> None:
        """Join the model's group, and return when that group is to leave."""
        group = self._groups.get(ref)
        if group is None:
            timer = asyncio.get_running_loop().call_later(self._wait_seconds, self._leave, ref)
            group = self._groups[ref] = _Group(timer)
        group.size += 1
        if group.size >= self._most:
            self._leave(ref)
        await group.leaves.wait()

    def _leave(self, ref: str) -> None:
        group = self._groups.pop(ref)
        group.timer.cancel()
        group.leaves.set()


class _Group:
    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.size = 0
        self.leaves = asyncio.Event()
