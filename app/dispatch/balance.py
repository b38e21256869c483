"""One replica as the balancer sees it: whether it is idle, may be tried, gives a sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from app.core.model import Replica
from app.dispatch.breaker import OPEN_SECONDS, Breaker, State
from app.dispatch.link import WIRE_LIMITS, Batch, Link, WireLimits, connect
from app.errors import PrismError, ReplicaUnavailable
from model_container.frames import Asked

BATCHES_AWAY_MIN = 2
"""One that the model works on, and one behind it whose decoding need not wait for the first one's way back."""

BATCHES_AWAY_MAX = 32
WORK_AWAY_SECONDS = 0.005
"""A quick replica may be given as many batches ahead as it works off in this time, so that it does not idle while one
turn of the event loop reads thousands of requests. A slow one is not: what waits here can still be dropped."""

SMOOTHING = 0.1

SILENCE_BEFORE_PING_SECONDS = 0.5
CONNECT_TIMEOUT_SECONDS = 2.0
REOPEN_PAUSE_SECONDS = 1.0
"""Before a replica is connected to again that broke the protocol, or that ended a connection this young: at once again
and again it would keep the event loop busy."""


class ReplicaLine:
    """Two connections to a replica: one for batches, one that is asked for a sign of life while a batch is away.

    free: called when the connection is there again, or a trial is due. lost: called with a reason when the replica
    went silent or its connection ended; says whether somebody looks after it. limits: of what it may send. fault: how
    it broke the protocol when its connection ended last, "" if it did not.
    looked_after: it was lost, and its keeper has neither replaced it nor said that nothing comes of it.
    has_answered: a request well.
    """

    def __init__(
        self,
        replica: Replica,
        heartbeat_timeout_seconds: float,
        free: Callable[[], None],
        lost: Callable[[str], bool],
        limits: WireLimits = WIRE_LIMITS,
    ) -> None:
        self.replica = replica
        self.fault = ""
        self.breaker = Breaker()
        self.batches_away = 0
        self.streams = 0
        self.served = 0
        self.looked_after = False
        self.has_answered = False
        self._batch_seconds = WORK_AWAY_SECONDS  # smoothed; not known yet
        self._heartbeat_timeout_seconds = heartbeat_timeout_seconds
        self._free = free
        self._lost = lost
        self._limits = limits
        self._opened_at = 0.0
        self._link: Link | None = None
        self._signs: Link | None = None
        self._oldest_sent: float | None = None
        self._last_sign = monotonic()
        self._asking: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect; a replica that cannot be reached now is reported lost and tried again until closed."""
        try:
            await self._connect()
        except PrismError as error:
            self.looked_after = self._lost(error.detail)
            self._reopen_after(0.0)

    async def _connect(self) -> None:
        self._opened_at = monotonic()
        self._link = await connect(self.replica, CONNECT_TIMEOUT_SECONDS, self._link_lost, self._limits)
        if self._signs is None or not self._signs.open:
            self._signs = await connect(self.replica, CONNECT_TIMEOUT_SECONDS, limits=self._limits)
        if self._link is None:
            raise ReplicaUnavailable("The replica closed one connection while another was opened.")
        self.breaker.succeed()
        self.looked_after = False
        self._free()

    def usable(self, now: float) -> bool:
        """Whether a request may wait for this replica: connected, and not left alone by its breaker."""
        return self._link is not None and self.breaker.allows(now)

    @property
    def connected(self) -> bool:
        return self._link is not None

    def has_room(self, now: float) -> bool:
        if self.batches_away >= BATCHES_AWAY_MIN:
            ahead = WORK_AWAY_SECONDS / max(self._batch_seconds, 1e-6)
            if self.batches_away >= min(ahead, BATCHES_AWAY_MAX):
                return False
        return self.usable(now)

    def idle(self, now: float) -> bool:
        return not self.batches_away and self.usable(now)

    def send(self, requests: Sequence[Asked], reply: Callable[[Batch | None], None]) -> None:
        assert self._link is not None
        if not self.batches_away:
            self._oldest_sent = self._last_sign = monotonic()
        self.batches_away += 1
        self.served += len(requests)
        self.breaker.begin()

        def back(batch: Batch | None) -> None:
            now = monotonic()
            self.batches_away -= 1
            self._oldest_sent = now if self.batches_away else None
            self._last_sign = now
            if batch is not None:
                self._judge(batch, now)
                took = (batch.codec_us + batch.model_us) / 1_000_000
                self._batch_seconds += SMOOTHING * (took - self._batch_seconds)
            reply(batch)

        self._link.send(requests, back)

    def _judge(self, batch: Batch, now: float) -> None:
        """What the model refuses is the request's fault; a batch in which it answers nobody may be the replica's."""
        if any(status < 500 for _, status, _ in batch.answers):
            self.breaker.succeed()
            self.has_answered = True
            return
        self.breaker.fail(now)
        if self.breaker.state(now) is State.OPEN:  # whoever waits by then is the trial
            asyncio.get_running_loop().call_later(OPEN_SECONDS, self._free)

    def watch(self, now: float, overslept: float) -> None:
        """While a batch is away for long: ask for a sign of life, and end the wait if none comes.

        overslept: seconds in which the server itself stood still and heard nobody, which are no silence.
        """
        if self._oldest_sent is None or self._closed:
            return
        self._last_sign = min(now, self._last_sign + overslept)
        if now - self._last_sign >= self._heartbeat_timeout_seconds:
            self._give_up(f"silent for {self._heartbeat_timeout_seconds:g} s with requests in hand")
        elif now - self._oldest_sent >= SILENCE_BEFORE_PING_SECONDS and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            if self._signs is None or not self._signs.open:
                self._signs = await connect(self.replica, self._heartbeat_timeout_seconds, limits=self._limits)
            await self._signs.ping()
            self._last_sign = monotonic()
        except PrismError:
            return  # no sign: watch() counts the silence
        await asyncio.sleep(SILENCE_BEFORE_PING_SECONDS)

    def _give_up(self, reason: str) -> None:
        self.breaker.trip(monotonic())
        link, self._link = self._link, None
        if link is not None:
            link.close()  # its waiting replies get None from connection_lost
        self.looked_after = self._lost(reason)

    def _link_lost(self) -> None:
        if self._closed:
            return
        link, self._link = self._link, None
        self.fault = link.fault if link is not None else ""
        now = monotonic()
        self.breaker.trip(now)
        if link is not None:
            self.looked_after = self._lost(f"it broke the protocol: {self.fault}" if self.fault else "its connection ended")
        flutters = bool(self.fault) or now - self._opened_at < REOPEN_PAUSE_SECONDS
        self._reopen_after(REOPEN_PAUSE_SECONDS if flutters else 0.0)

    def _reopen_after(self, pause_seconds: float) -> None:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._reopen(pause_seconds))

    async def _reopen(self, pause_seconds: float) -> None:
        """Until the replica answers again or is taken out of the route table."""
        await asyncio.sleep(pause_seconds)
        wait = 0.05
        while not self._closed:
            try:
                await self._connect()
                return
            except PrismError:
                await asyncio.sleep(wait)
                wait = min(1.0, wait * 2)

    async def close(self) -> None:
        self._closed = True
        tasks = [task for task in (self._asking, self._opening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in (self._link, self._signs):
            if link is not None:
                await link.wait_closed()
