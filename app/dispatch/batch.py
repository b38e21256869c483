"""Joins requests into batches and splits the answers: the queue of one endpoint, and the replicas it feeds.

No timer makes a request wait for company: a batch leaves at once when a replica is idle, and what arrives while
it is away forms the next one. The batch window only bounds that forming: when the oldest waiting request has
waited so long, the next batch is sent behind the one that is still away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

import msgspec
from msgspec import Struct

from app.core.route_table import Endpoint
from app.dispatch.balance import ReplicaLine
from app.dispatch.link import Batch
from app.errors import Overloaded, PrismError, ReplicaTimeout, ReplicaUnavailable
from model_container import frames
from model_container.frames import Answer, Request


class Reply(Struct, frozen=True):
    """One answer and what it took: ms waiting in the queue, requests in its batch, ms in the model."""

    answer: Answer
    queue_ms: float
    batch_size: int
    model_ms: float


class Waiting:
    """One request on its way."""

    __slots__ = ("arrived", "deadline", "future", "request", "tries")

    def __init__(self, request: Request, now: float, timeout_seconds: float) -> None:
        self.request = request
        self.arrived = now
        self.deadline = now + timeout_seconds
        self.tries = 0
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def fail(self, error: PrismError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Flow(Struct, frozen=True):
    """The bounds of every lane, from the settings."""

    max_batch_size: int
    queue_length: int
    window_seconds: float
    timeout_seconds: float
    heartbeat_timeout_seconds: float


def answer_heads(endpoint: Endpoint) -> dict[int, bytes]:
    """By the form of an answer, what stands before the runtime's own members; made once, not for each answer."""
    name, version, model_id = (
        msgspec.json.encode(each) for each in (endpoint.name, endpoint.version, endpoint.model_id)
    )
    return {
        frames.FORM_NATIVE: b'{"model":%b,"version":%b,"model_id":%b,' % (name, version, model_id),
        frames.FORM_V2: b'{"model_name":%b,"model_version":%b,' % (name, version),
    }


class Lane:
    """The bounded queue of one endpoint and its replicas.

    suspect: called with (model_id, reason) when a replica is silent or gone, so that its keeper looks at it.
    """

    def __init__(self, endpoint: Endpoint, flow: Flow, suspect: Callable[[str, str], None]) -> None:
        self.endpoint = endpoint
        self.heads = answer_heads(endpoint)
        self._flow = flow
        self._suspect = suspect
        self._queue: deque[Waiting] = deque()
        self._away: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.replicas = [
            ReplicaLine(replica, flow.heartbeat_timeout_seconds, self._pump, self._replica_lost)
            for replica in endpoint.replicas
        ]

    @property
    def pending(self) -> int:
        return len(self._queue) + len(self._away)

    async def open(self) -> None:
        """Connect to every replica, so that the first request finds it warm."""
        await asyncio.gather(*(line.open() for line in self.replicas))

    def submit(self, request: Request) -> asyncio.Future[Reply]:
        """The future answer. Raises Overloaded if the queue is full, ReplicaUnavailable if nothing can answer."""
        if len(self._queue) >= self._flow.queue_length:
            raise Overloaded(
                f"{len(self._queue)} requests already wait for `{self.endpoint.name}`.",
                hint="Send less at a time, or raise PRISM_QUEUE_LENGTH.",
            )
        now = monotonic()
        if not any(line.usable(now) for line in self.replicas):
            raise self._unavailable()
        waiting = Waiting(request, now, self._flow.timeout_seconds)
        self._queue.append(waiting)
        self._pump()
        return waiting.future

    def _unavailable(self) -> ReplicaUnavailable:
        return ReplicaUnavailable(f"No replica of `{self.endpoint.name}` answers right now; it is being replaced.")

    def _pump(self) -> None:
        """Send what waits to whoever is idle; else make sure that the window ends the wait."""
        while self._queue:
            line = min(
                (line for line in self.replicas if line.idle(monotonic())), key=lambda each: each.served, default=None
            )
            if line is None:
                self._arm_window()
                return
            self._send(line)

    def _arm_window(self) -> None:
        if self._timer is None:
            wait = self._queue[0].arrived + self._flow.window_seconds - monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wait), self._window_over)

    def _window_over(self) -> None:
        self._timer = None
        lines = [line for line in self.replicas if line.has_room(monotonic())]
        if self._queue and lines:
            self._send(min(lines, key=lambda each: each.batches_away))
            self._pump()

    def _send(self, line: ReplicaLine) -> None:
        batch: list[Waiting] = []
        while self._queue and len(batch) < self._flow.max_batch_size:
            waiting = self._queue.popleft()
            if waiting.future.done():  # its client has gone, or its time was over
                continue
            if waiting.tries and batch:  # one that was lost with a replica goes alone, not to take others along
                self._queue.appendleft(waiting)
                break
            batch.append(waiting)
            if waiting.tries:
                break
        if not batch:
            return
        sent = monotonic()
        self._away.update(batch)
        line.send([one.request for one in batch], lambda result: self._settle(line, batch, sent, result))

    def _settle(self, line: ReplicaLine, batch: list[Waiting], sent: float, result: Batch | None) -> None:
        self._away.difference_update(batch)
        if result is None:
            for one in reversed(batch):
                self._retry(one)
        else:
            model_ms = result.model_us / 1000
            for one, answer in zip(batch, result.answers, strict=True):
                if not one.future.done():
                    one.future.set_result(Reply(answer, (sent - one.arrived) * 1000, len(batch), model_ms))
        self._pump()

    def _retry(self, waiting: Waiting) -> None:
        """A prediction has no side effect, so one whose replica was lost is tried once more elsewhere."""
        if waiting.tries or not any(line.usable(monotonic()) for line in self.replicas):
            waiting.fail(self._unavailable())
        else:
            waiting.tries += 1
            self._queue.appendleft(waiting)

    def _replica_lost(self, reason: str) -> None:
        self._suspect(self.endpoint.model_id, reason)
        if not any(line.usable(monotonic()) for line in self.replicas):
            while self._queue:
                self._queue.popleft().fail(self._unavailable())

    def sweep(self, now: float) -> None:
        """Called every tenth of a second: ends what is past its deadline, and asks silent replicas for a sign."""
        late = [one for one in (*self._away, *self._queue) if one.deadline <= now]
        for one in late:
            one.fail(ReplicaTimeout(f"`{self.endpoint.name}` did not answer within {self._flow.timeout_seconds:g} s."))
        for line in self.replicas:
            line.watch(now)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for one in (*self._queue, *self._away):
            one.fail(self._unavailable())
        self._queue.clear()
        for line in self.replicas:
            await line.close()
