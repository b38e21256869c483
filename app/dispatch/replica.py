"""One replica as the lane sees it: whether it is idle, whether it may be tried, and whether it gives a heartbeat."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from app.core.breaker import Breaker
from app.core.model import Replica
from app.dispatch.chaos import ChaosEdge
from app.dispatch.connection import Batch, ReplicaConnection, connect
from app.dispatch.limits import QueueSettings
from app.dispatch.pace import HELD_UP_SECONDS, Pace
from app.dispatch.trial import Trial
from app.errors import PrismError, ReplicaUnavailable
from model_container.contract.frames import Asked

BATCHES_AWAY_MIN = 2
"""Batches that any replica may have in flight: one that the model works on, and one behind it, whose decoding need not
wait for the first one's way back.
"""

BATCHES_AWAY_MAX = 32
WORK_AWAY_SECONDS = 0.005
"""A fast replica may be sent as many batches ahead as it works off in this time, so that it does not idle while one
turn of the event loop reads thousands of requests. A slow replica gets no more than BATCHES_AWAY_MIN: requests that
wait here can still be dropped.
"""

SMOOTHING = 0.1

SILENCE_BEFORE_PING_SECONDS = 0.5
CONNECT_TIMEOUT_SECONDS = 2.0
REOPEN_PAUSE_SECONDS = 1.0
"""Pause before reconnecting to a replica that broke the protocol, or whose connection ended when it was younger than
this. Reconnecting at once, again and again, would keep the event loop busy.
"""

SIDE_BY_SIDE_SECONDS = 1.0


class Lost:
    """The loss of a batch: its replica was lost, or the batch was taken back from a replica that is held up.

    begun: whether the replica was working on the batch. alone: whether it was working on nothing else.
    """

    __slots__ = ("alone", "begun")

    def __init__(self, begun: bool, alone: bool) -> None:
        self.begun = begun
        self.alone = alone


NOT_BEGUN = Lost(begun=False, alone=False)
Back = Callable[[Batch | Lost], None]


class Sent:
    """A batch in flight. reply: gets the answers, or what is known about its loss; None once it was taken back."""

    __slots__ = ("reply", "requests")

    def __init__(self, requests: Sequence[Asked], reply: Back) -> None:
        self.requests = requests
        self.reply: Back | None = reply


class ReplicaClient:
    """A client of one replica with two connections: one for batches, one to ask for a heartbeat during a batch.

    A replica works off its batches one after another, so the oldest one is the one that it is working on.

    free: called when a batch came back, the connection is open again, or the circuit opens or closes.
    lost: called with a reason when the replica fell silent, its connection ended, or it does not finish a batch;
    returns whether somebody looks after the replica.
    sample: see Trial.
    looked_after: whether the replica was lost, and the health monitor has neither replaced it nor given it up.
    has_answered: whether it has answered a request well.
    fault: how it broke the protocol when its connection last ended, "" if it did not.
    stream_left_at: when a stream was last lost with it.
    is_withheld: whether it is sent nothing more for now, as it is held up or reserved for one request.
    chaos: spoils its answers on purpose; None as a rule.
    """

    def __init__(
        self,
        replica: Replica,
        flow: QueueSettings,
        pace: Pace,
        free: Callable[[], None],
        lost: Callable[[str], bool],
        sample: Callable[[], bytes | None],
    ) -> None:
        self.replica = replica
        self.fault = ""
        self.breaker = Breaker()
        self.batches_away = 0
        self.streams = 0
        self.served = 0
        self.looked_after = False
        self.has_answered = False
        self.is_withheld = False
        self.is_held_up = False
        self.chaos: ChaosEdge | None = None
        self._is_kept = False
        self._batch_seconds = WORK_AWAY_SECONDS  # smoothed; unknown before the first answer
        self._flow = flow
        self._pace = pace
        self._free = free
        self._lost = lost
        self._opened_at = 0.0
        self._connection: ReplicaConnection | None = None
        self._heartbeat: ReplicaConnection | None = None
        self._away: deque[Sent] = deque()
        self._oldest_sent: float | None = None
        self._last_sign = monotonic()
        self._asking: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._busy_seconds = self._stuck_seconds = 0.0
        self._is_losing = False
        self.stream_left_at = self._batch_lost_at = float("-inf")
        self._trial = Trial(self.breaker, sample, lambda: self._connection, free, flow.timeout_seconds)
        self._closed = False

    async def open(self) -> None:
        """Connect. A replica that cannot be reached now is reported lost, and retried until the client is closed."""
        try:
            await self._connect()
        except PrismError as error:
            self.looked_after = self._lost(error.detail)
            self._reopen_after(0.0)

    async def _connect(self) -> None:
        self._opened_at = monotonic()
        connection = await connect(self.replica, CONNECT_TIMEOUT_SECONDS, self._connection_lost, self._flow.wire)
        try:
            if self._heartbeat is None or not self._heartbeat.open:
                self._heartbeat = await connect(self.replica, CONNECT_TIMEOUT_SECONDS, limits=self._flow.wire)
            if self._stuck_seconds:
                await self._expect_freed(self._heartbeat)
            if not connection.open:
                raise ReplicaUnavailable("It closed the connection.")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._is_losing = False
        self.breaker.succeed()
        self.looked_after = False
        self._free()

    async def _expect_freed(self, heartbeat: ReplicaConnection) -> None:
        """Raise ReplicaUnavailable if the replica is still busy with the batch for which it was given up.

        It would answer nobody.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                busy_seconds = (await heartbeat.ping()).busy_ms / 1000
        except TimeoutError:
            busy_seconds = self._stuck_seconds
        if busy_seconds >= self._stuck_seconds:
            raise ReplicaUnavailable("It has not finished yet.")
        self._stuck_seconds = 0.0

    def usable(self, now: float) -> bool:
        """Return whether a request may wait for this replica: it is connected and its circuit is closed."""
        return self._connection is not None and self.breaker.is_closed

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def has_room(self, now: float) -> bool:
        if self.is_withheld:
            return False
        if self.batches_away >= BATCHES_AWAY_MIN:
            ahead = WORK_AWAY_SECONDS / max(self._batch_seconds, 1e-6)
            if self.batches_away >= min(ahead, BATCHES_AWAY_MAX):
                return False
        return self.usable(now)

    def idle(self, now: float) -> bool:
        return not self.batches_away and not self.is_withheld and self.usable(now)

    def send(self, requests: Sequence[Asked], reply: Back) -> None:
        assert self._connection is not None
        if not self.batches_away:
            self._oldest_sent = self._last_sign = monotonic()
        self.batches_away += 1
        self.served += len(requests)
        sent = Sent(requests, reply)
        self._away.append(sent)
        reply = partial(self._take_back, sent)
        self._connection.send(requests, reply if self.chaos is None else self.chaos.spoiling(reply))

    def _take_back(self, sent: Sent, batch: Batch | None) -> None:
        """Handle the end of a batch: its answers, or None if its connection ended first. Called once for each batch."""
        now = monotonic()
        if self._away[0] is sent:
            self._away.popleft()
        else:
            self._away.remove(sent)
        self.batches_away -= 1
        self._oldest_sent = now if self.batches_away else None
        self._last_sign = now
        self._busy_seconds = 0.0
        if self.is_held_up:
            self.is_held_up, self.is_withheld = False, self._is_kept
        if batch is None:
            self._lose(sent, now)
            return
        if any(status < 500 for _, status, _ in batch.answers):
            self.breaker.succeed()
            self.has_answered = True
        else:
            self.failed()
        took = (batch.codec_us + batch.model_us) / 1_000_000
        self._batch_seconds += SMOOTHING * (took - self._batch_seconds)
        self._pace.note(took / len(sent.requests))
        if sent.reply is not None:
            sent.reply(batch)

    def keep(self, kept: bool) -> None:
        """Reserve the replica for one request, or free it for all again."""
        self._is_kept = kept
        self.is_withheld = kept or self.is_held_up

    def _lose(self, sent: Sent, now: float) -> None:
        """Report a lost batch. Of the batches lost with a connection, the replica was working on the first."""
        begun, self._is_losing, self._batch_lost_at = not self._is_losing, True, now
        alone = begun and len(sent.requests) == 1 and not self.has_streams(now)
        if sent.reply is not None:
            sent.reply(Lost(begun, alone) if begun else NOT_BEGUN)

    def has_streams(self, now: float) -> bool:
        """Return whether the replica has streams or had one a moment ago.

        Several connections that end with a replica end one after another.
        """
        return bool(self.streams) or now - self.stream_left_at < SIDE_BY_SIDE_SECONDS

    def is_alone_with_stream(self, now: float) -> bool:
        """Return whether the replica has one stream and, now and a moment ago, no batch."""
        return self.streams == 1 and not self.batches_away and now - self._batch_lost_at >= SIDE_BY_SIDE_SECONDS

    def failed(self) -> None:
        """Count a failed answer. Failures are held to be the requests' fault until the replica's sample fails too."""
        if self.breaker.fail():
            self._trial.begin()

    def recall(self) -> None:
        """Take back the batches that the replica has not begun, so that others answer them.

        Its late answers to them are ignored.
        """
        for sent in list(self._away)[1:]:
            reply, sent.reply = sent.reply, None
            if reply is not None:
                reply(NOT_BEGUN)

    def is_at(self, request: Asked) -> bool:
        """Return whether the replica is working on this request."""
        return bool(self._away) and any(sent is request for sent in self._away[0].requests)

    def watch(self, now: float, loop_lag_seconds: float) -> None:
        """Ask for a heartbeat while a batch is in flight for long, and give the replica up if none comes.

        loop_lag_seconds: how long the server itself was stalled and read nothing, which does not count as silence.
        """
        if self._oldest_sent is None or self._connection is None or self._closed:
            return
        self._last_sign = min(now, self._last_sign + loop_lag_seconds)
        self._oldest_sent = min(now, self._oldest_sent + loop_lag_seconds)
        if now - self._last_sign >= self._flow.heartbeat_timeout_seconds:
            self._give_up(f"silent for {self._flow.heartbeat_timeout_seconds:g} s with requests in hand")
            return
        if now - self._oldest_sent >= SILENCE_BEFORE_PING_SECONDS and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask())
        self._look_at_oldest(now)

    def _look_at_oldest(self, now: float) -> None:
        """Detect a replica that is held up, and give it up once it is so for too long.

        It is held up once it reports that it has been busy with one batch for far longer than with any before. It is
        given up at the timeout, or at half of it if the batch has other requests that can still be answered elsewhere
        in time.
        """
        if self._oldest_sent is None or self._busy_seconds < HELD_UP_SECONDS:
            return
        age = min(now - self._oldest_sent, self._busy_seconds)
        requests, timeout = len(self._away[0].requests), self._flow.timeout_seconds
        if self._pace.is_held_up(age, requests):
            self.is_held_up = self.is_withheld = True
        if age >= timeout or (self.is_held_up and requests > 1 and age >= timeout / 2):
            self._stuck_seconds = age
            self._give_up(f"at work on the same {requests} request{'s' * (requests > 1)} for {age:.0f} s")

    async def _ask(self) -> None:
        try:
            if self._heartbeat is None or not self._heartbeat.open:
                self._heartbeat = await connect(
                    self.replica, self._flow.heartbeat_timeout_seconds, limits=self._flow.wire
                )
            oldest = self._away[0] if self._away else None
            pong = await self._heartbeat.ping()
            self._last_sign = monotonic()
            if self._away and self._away[0] is oldest:
                self._busy_seconds = pong.busy_ms / 1000
        except PrismError:
            return  # no heartbeat: watch() counts the silence
        await asyncio.sleep(SILENCE_BEFORE_PING_SECONDS)

    def _give_up(self, reason: str) -> None:
        self.breaker.trip(monotonic())
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # its pending replies get None from connection_lost
        self.looked_after = self._lost(reason)

    def _connection_lost(self) -> None:
        if self._closed:
            return
        connection, self._connection = self._connection, None
        self.fault = connection.fault if connection is not None else ""
        now = monotonic()
        self.breaker.trip(now)
        if connection is not None:
            self.looked_after = self._lost(
                f"it broke the protocol: {self.fault}" if self.fault else "its connection ended"
            )
        flutters = bool(self.fault) or now - self._opened_at < REOPEN_PAUSE_SECONDS
        self._reopen_after(REOPEN_PAUSE_SECONDS if flutters else 0.0)

    def _reopen_after(self, pause_seconds: float) -> None:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._reopen(pause_seconds))

    async def _reopen(self, pause_seconds: float) -> None:
        """Reconnect until the replica answers again or the client is closed."""
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
        await self._trial.end()
        tasks = [task for task in (self._asking, self._opening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in (self._connection, self._heartbeat):
            if connection is not None:
                await connection.wait_closed()
