"""The trial of a replica whose requests fail: the model's own sample, the one that its probe chose, decides.

No caller's request is a trial: a request can fail by its caller's own fault, and callers should not pay for a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from app.core import breaker as breakers
from app.core.breaker import Breaker
from app.dispatch.connection import ReplicaConnection
from app.errors import PrismError
from model_container.contract.frames import Request

Sample = Callable[[], bytes | None]
"""Returns the request body that the model is known to answer; None while there is none."""


class Trial:
    """The trial of one replica.

    connection: returns its current connection, or None. verdict: called when its circuit opens or closes.
    """

    def __init__(
        self,
        breaker: Breaker,
        sample: Sample,
        connection: Callable[[], ReplicaConnection | None],
        verdict: Callable[[], None],
        timeout_seconds: float,
    ) -> None:
        self._breaker = breaker
        self._sample = sample
        self._connection = connection
        self._verdict = verdict
        self._timeout_seconds = timeout_seconds
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start a trial, unless one is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Repeat the trial until the sample is answered or the connection is gone.

        A new connection begins with a closed circuit.
        """
        while (answered := await self._is_answered()) is False:
            self._breaker.trip(monotonic())
            self._verdict()
            await asyncio.sleep(breakers.OPEN_SECONDS)
        if answered:
            self._breaker.succeed()
            self._verdict()

    async def _is_answered(self) -> bool | None:
        """Return whether the replica answers its sample; None if that is unknown: there is no sample, or no connection.

        A timeout counts as a failure only while the circuit is open: before, the sample may have waited behind other
        work.
        """
        sample, connection = self._sample(), self._connection()
        if sample is None or connection is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return (await connection.predict(Request(sample))).status == 200
        except TimeoutError:
            return None if self._breaker.is_closed else False
        except PrismError:
            return None
