"""Background work on models: one job at a time for each model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Work = Callable[[], Awaitable[None]]


class Jobs:
    """The current jobs by model_id. A job is expected to handle its own errors."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, model_id: str, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin a job and make it the model's current one. A job that was current goes on unless somebody ends it."""
        task = self._tasks[model_id] = asyncio.create_task(work, name=name)

        def ended(done: asyncio.Task[None]) -> None:
            if self._tasks.get(model_id) is done:
                del self._tasks[model_id]

        task.add_done_callback(ended)

    def behind(self, model_id: str, work: Work) -> Work:
        """Return work that waits for the present job before it begins. Cancelling it cancels both."""
        present = self._tasks.get(model_id)

        async def then() -> None:
            if present is not None:
                try:
                    await asyncio.wait([present])
                except asyncio.CancelledError:
                    present.cancel()
                    await asyncio.wait([present])
                    raise
            await work()

        return then

    def busy(self, model_id: str) -> bool:
        return model_id in self._tasks

    def is_followed(self, model_id: str) -> bool:
        """Return whether another job waits for the end of the job that asks."""
        return self._tasks.get(model_id) is not asyncio.current_task()

    async def settled(self, model_id: str) -> None:
        """Wait until no job works on the model. The job goes on if the waiter is cancelled."""
        task = self._tasks.get(model_id)
        if task is not None:
            await asyncio.wait([task])  # a shield could mistake the job's cancellation for the waiter's

    async def end(self, model_id: str) -> None:
        task = self._tasks.pop(model_id, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def end_all(self) -> None:
        for model_id in list(self._tasks):
            await self.end(model_id)
