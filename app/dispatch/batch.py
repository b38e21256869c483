"""Joins requests into batches and splits the answers: the queue of one endpoint, and the replicas it feeds.

No timer makes a request wait for company: what one turn of the event loop has read leaves together at once when a
replica is idle, and what arrives while it is away forms the next batch. A batch that is full has nothing to wait for:
it is sent behind those that are away, as far as the replica works them off soon. The batch window bounds the forming
of the others: when the oldest waiting request has waited so long, they are sent, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Protocol

import msgspec
import structlog

from app.core.model import Replica
from app.core.route_table import Endpoint
from app.dispatch.balance import ReplicaLine
from app.dispatch.breaker import FAILURES_TO_OPEN, State
from app.dispatch.flow import Flow, flow_of
from app.dispatch.link import Batch
from app.dispatch.waiting import Reply, Waiting
from app.dispatch.wakefulness import Wakefulness
from app.errors import Overloaded, PrismError, ReplicaProtocolError, ReplicaTimeout, ReplicaUnavailable
from app.observe.tally import Tally
from model_container import frames

log = structlog.get_logger(__name__)


class Ending(Protocol):
    """A stream, as far as its lane is concerned; see stream.py. line: of the replica that answers it."""

    @property
    def line(self) -> ReplicaLine | None: ...

    def end(self, error: PrismError) -> None: ...


class Lane:
    """The bounded queue of one endpoint and its replicas, which may change while it serves.

    suspect: called with (replica, reason) when it is silent or gone, so that its keeper looks at it.
    """

    def __init__(self, endpoint: Endpoint, flow: Flow, suspect: Callable[[Replica, str], None], tally: Tally) -> None:
        self.endpoint = endpoint
        self.tally = tally
        self.version_headers = f"x-model-version: {endpoint.version}\r\nx-model-id: {endpoint.model_id}\r\n"
        self.names = answer_names(endpoint)
        self.flow = flow_of(endpoint, flow)
        self._suspect = suspect
        self._queue: deque[Waiting] = deque()
        self._away: set[Waiting] = set()
        self.streams: set[Ending] = set()
        self._gathering = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._wakefulness = Wakefulness(self._loop)
        self.replicas = [self._line(replica) for replica in endpoint.replicas]
        self._left: list[ReplicaLine] = []

    def _line(self, replica: Replica) -> ReplicaLine:
        lost = partial(self._replica_lost, replica)
        return ReplicaLine(replica, self.flow.heartbeat_timeout_seconds, self._pump, lost, self.flow.wire)

    @property
    def _queue_bound(self) -> str:
        """What sets it."""
        return "queue_length in its model_config.yaml" if self.endpoint.bounds.queue_length else "PRISM_QUEUE_LENGTH"

    @property
    def pending(self) -> int:
        return len(self._queue) + len(self._away) + len(self.streams)

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def open(self) -> None:
        """Connect to every replica, so that the first request finds it warm."""
        await asyncio.gather(*(line.open() for line in self.replicas))

    async def reach(self, endpoint: Endpoint) -> list[ReplicaLine]:
        """A line to each of these replicas: those that there are, and new ones, connected, for `serve_with`."""
        present = {line.replica: line for line in self.replicas}
        lines = [present.get(replica) or self._line(replica) for replica in endpoint.replicas]
        await asyncio.gather(*(line.open() for line in lines if line.replica not in present))
        return lines

    def serve_with(self, endpoint: Endpoint, lines: list[ReplicaLine]) -> list[ReplicaLine]:
        """From now on: what waits goes to these. Returns those left out, which still answer what they have."""
        left = [line for line in self.replicas if line not in lines]
        least = min((line.served for line in self.replicas), default=0)
        for line in lines:  # one that comes has its share, and not all until it has caught up
            line.served = max(line.served, least)
        self.endpoint, self.replicas = endpoint, lines
        self._left += left
        self._pump()
        return left

    def holds(self, line: ReplicaLine) -> bool:
        """Whether that replica has something left to do: requests in hand, or, unless it was left out, in the queue."""
        return bool(line.batches_away or line.streams or (self._queue and line in self.replicas))

    async def let_go(self, line: ReplicaLine) -> None:
        """Close its line; what it has not answered is tried elsewhere, or failed. Its streams end."""
        for stream in [one for one in self.streams if one.line is line]:
            stream.end(self._unavailable())
        self.replicas = [one for one in self.replicas if one is not line]
        self._left = [one for one in self._left if one is not line]
        await line.close()
        if not self.replicas:
            await self.close()

    def submit(self, waiting: Waiting, now: float) -> None:
        """Queue it. Raises Overloaded if the queue is full, ReplicaUnavailable if nothing can answer."""
        if len(self._queue) >= self.flow.queue_length:
            self._pump()
            if len(self._queue) >= self.flow.queue_length:
                raise Overloaded(
                    f"{len(self._queue)} requests already wait for `{self.endpoint.name}`.",
                    hint=f"Send less at a time, or raise {self._queue_bound}.",
                )
        if not self._usable(now):
            raise self._unavailable()
        waiting.arrived = now
        waiting.deadline = now + self.flow.timeout_seconds
        self._queue.append(waiting)
        if len(self._queue) >= self.flow.max_batch_size:
            self._pump()
        elif not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._gathered)

    def admit_stream(self, stream: Ending, now: float) -> None:
        """Raises Overloaded if as many are open as may be, ReplicaUnavailable if nothing can answer."""
        if len(self.streams) >= self.flow.max_streams:
            raise Overloaded(
                f"{len(self.streams)} streams of `{self.endpoint.name}` are already open.",
                hint="Close one, or raise PRISM_MAX_STREAMS.",
            )
        if not self._usable(now):
            raise self._unavailable()
        self.streams.add(stream)

    def line_for_stream(self, now: float) -> ReplicaLine:
        """The replica that has least to do. Raises ReplicaUnavailable if none may be tried."""
        lines = [line for line in self.replicas if line.usable(now)]
        if not lines:
            raise self._unavailable()
        return min(lines, key=lambda line: (line.streams + line.batches_away, line.served))

    def _usable(self, now: float) -> bool:
        """A loop, as this is asked for every request and a generator would take longer than the answer."""
        for line in self.replicas:  # noqa: SIM110
            if line.usable(now):
                return True
        return False

    @property
    def circuit(self) -> State:
        """How far its replicas may be tried: closed if any may."""
        states = set(self.circuits.values())
        return next((state for state in (State.CLOSED, State.HALF_OPEN) if state in states), State.OPEN)

    @property
    def circuits(self) -> dict[Replica, State]:
        """Of each replica."""
        now = monotonic()
        return {line.replica: line.breaker.state(now) for line in self.replicas}

    def _unavailable(self) -> ReplicaUnavailable:
        if any(line.connected for line in self.replicas):
            return ReplicaUnavailable(
                f"`{self.endpoint.name}` failed every request of its last {FAILURES_TO_OPEN} batches; "
                "it is left alone for a moment, then tried again.",
                hint=f"Read its log: prism models logs {self.endpoint.name}.",
            )
        return ReplicaUnavailable(f"No replica of `{self.endpoint.name}` answers right now; it is being replaced.")

    def _gathered(self) -> None:
        self._gathering = False
        self._pump()

    def _pump(self) -> None:
        """Send what waits to whoever is idle, and full batches to whoever has room; else the window ends the wait."""
        while self._queue:
            now = monotonic()
            full = len(self._queue) >= self.flow.max_batch_size
            line = self._choose(now, full)
            if line is None:
                self._arm_window(now)
                return
            self._send(line, now)

    def _choose(self, now: float, full: bool) -> ReplicaLine | None:
        """The replica with the fewest batches away, of these the one that has served least; None if none has room."""
        chosen = None
        for line in self.replicas:
            if not (line.has_room(now) if full else line.idle(now)):
                continue
            if chosen is None or (line.batches_away, line.served) < (chosen.batches_away, chosen.served):
                chosen = line
        return chosen

    def _arm_window(self, now: float) -> None:
        if self._timer is None:
            wait = self._queue[0].arrived + self.flow.window_seconds - now
            self._timer = self._loop.call_later(max(0.0, wait), self._window_over)

    def _window_over(self) -> None:
        self._timer = None
        now = monotonic()
        lines = [line for line in self.replicas if line.has_room(now)]
        if self._queue and lines:
            self._send(min(lines, key=lambda each: each.batches_away), now)
            self._pump()

    def _send(self, line: ReplicaLine, now: float) -> None:
        batch: list[Waiting] = []
        while self._queue and len(batch) < self.flow.max_batch_size:
            waiting = self._queue.popleft()
            if waiting.settled:  # its client has gone, or its time was over
                continue
            if waiting.tries and batch:  # one that was lost with a replica goes alone, not to take others along
                self._queue.appendleft(waiting)
                break
            batch.append(waiting)
            if waiting.tries:
                break
        if batch:
            if len(batch) == 1:
                self._wakefulness.stir(now)
            self._away.update(batch)
            line.send(batch, lambda result: self._settle(batch, now, result, line))

    def _settle(self, batch: list[Waiting], sent: float, result: Batch | None, line: ReplicaLine) -> None:
        self._away.difference_update(batch)
        if result is None:
            for one in reversed(batch):
                self._retry(one, line.fault)
        else:
            self._answer(batch, sent, result)
        self._pump()

    def _answer(self, batch: list[Waiting], sent: float, result: Batch) -> None:
        tally, names = self.tally, self.names
        now = monotonic()
        tally.batch_size.observe([len(batch)])
        tally.model_seconds += result.model_us / 1_000_000
        tally.codec_seconds += result.codec_us / 1_000_000
        tally.away_seconds += len(batch) * (now - sent)
        tally.last_at = now
        tally.count([status for one, (_, status, _) in zip(batch, result.answers, strict=True) if not one.settled])
        tally.latency.observe([now - one.arrived for one in batch if not one.settled])
        if self.flow.log_timings:
            self._log_timings(batch, sent, now, result)
        shared = f'batch;desc="{len(batch)}", inference;dur={result.model_us / 1000:.2f}'
        for one, (body, status, form) in zip(batch, result.answers, strict=True):
            if not one.settled:
                one.settled = True
                timing = f"queue;dur={(sent - one.arrived) * 1000:.2f}, {shared}"
                try:
                    one.answered(Reply(status, form, names.get(form, b""), body, timing))
                except Exception:  # of one request, which must not leave the others without an answer
                    log.exception("an answer could not be given", model=self.endpoint.name)
                    one.failed(ReplicaProtocolError.of("its answer could not be given"))

    def _log_timings(self, batch: list[Waiting], sent: float, now: float, result: Batch) -> None:
        for one, (_, status, _) in zip(batch, result.answers, strict=True):
            log.info(
                "predicted",
                model=f"{self.endpoint.name}@{self.endpoint.version}",
                status=status,
                batch=len(batch),
                queue_ms=round((sent - one.arrived) * 1000, 2),
                codec_ms=round(result.codec_us / 1000, 2),
                inference_ms=round(result.model_us / 1000, 2),
                total_ms=round((now - one.arrived) * 1000, 2),
            )

    def _retry(self, waiting: Waiting, fault: str) -> None:
        """A prediction has no side effect, so one whose replica was lost is tried once more elsewhere.

        fault: how the replica broke the protocol, "" if it did not.
        """
        if waiting.tries or not self._usable(monotonic()):
            waiting.fail(ReplicaProtocolError.of(fault) if fault else self._unavailable())
        else:
            waiting.tries += 1
            self._queue.appendleft(waiting)

    def _replica_lost(self, replica: Replica, reason: str) -> None:
        self._suspect(replica, reason)
        if not self._usable(monotonic()):
            while self._queue:
                self._queue.popleft().fail(self._unavailable())

    def sweep(self, now: float, overslept: float) -> None:
        """Called every tenth of a second: ends what is past its deadline, drops what nobody waits for any more, and
        asks silent replicas for a sign. overslept: how much later than that it is called, in seconds."""
        late = [one for one in (*self._away, *self._queue) if one.deadline <= now]
        for one in late:
            one.fail(ReplicaTimeout(f"`{self.endpoint.name}` did not answer within {self.flow.timeout_seconds:g} s."))
        if any(one.settled for one in self._queue):
            self._queue = deque(one for one in self._queue if not one.settled)
        for line in (*self.replicas, *self._left):
            line.watch(now, overslept)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for one in (*self._queue, *self._away):
            one.fail(self._unavailable())
        self._queue.clear()
        for stream in list(self.streams):
            stream.end(self._unavailable())
        for line in (*self.replicas, *self._left):
            await line.close()


def answer_names(endpoint: Endpoint) -> dict[int, bytes]:
    """By the form of an answer, what stands before the runtime's own members; made once, not for each answer."""
    name, version, model_id = (
        msgspec.json.encode(each) for each in (endpoint.name, endpoint.version, endpoint.model_id)
    )
    return {
        frames.FORM_NATIVE: b'{"model":%b,"version":%b,"model_id":%b,' % (name, version, model_id),
        **dict.fromkeys(
            (frames.FORM_V2, frames.FORM_V2_BINARY, frames.FORM_GENERATE),
            b'{"model_name":%b,"model_version":%b,' % (name, version),
        ),
    }
