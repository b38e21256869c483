"""Joins requests into batches and splits the answers: the queue of one endpoint, and the replicas it feeds.

No timer makes a request wait for company: what one turn of the event loop has read leaves together at once when a
replica is idle, and what arrives while it is away forms the next batch. A batch that is full has nothing to wait for:
it is sent behind those that are away, as far as the replica works them off soon. The batch window bounds the forming
of the others: when the oldest waiting request has waited so long, they are sent, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Protocol

import msgspec
import structlog
from msgspec import structs

from app.core.breaker import State
from app.core.model import Replica
from app.core.route_table import Endpoint, Loss, Outlook
from app.dispatch.busy_poll import BusyPoll
from app.dispatch.connection import Batch
from app.dispatch.limits import QueueSettings, queue_settings_for
from app.dispatch.pace import Pace
from app.dispatch.replica import Lost, ReplicaClient
from app.dispatch.request import PendingRequest, Reply
from app.dispatch.suspects import Suspect, Suspects, is_cause, suspects_of, told
from app.errors import Overloaded, PrismError, ReplicaProtocolError, ReplicaTimeout, ReplicaUnavailable
from app.observe.tally import ModelCounters
from model_container.contract import frames

log = structlog.get_logger(__name__)


Keeper = Callable[[Replica, str], "bool | None"]
"""Told (replica, reason) when one is silent or gone, so that it looks at it; says whether it does."""

Sample = Callable[[str], bytes | None]
"""The body that a model is known to answer, by its model_id; None while there is none."""


class OpenStream(Protocol):
    """A stream, as far as its lane is concerned; see stream.py. line: of the replica that answers it."""

    @property
    def line(self) -> ReplicaClient | None: ...

    def end(self, error: PrismError) -> None: ...


class Lane:
    """The bounded queue of one endpoint and its replicas, which may change while it serves.

    While none of them can answer, requests wait here for one that is coming, within their time; where none is, they
    are refused at once.

    sample: what decides whether a replica whose requests fail is left alone, see trial.py.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        flow: QueueSettings,
        keeper: Keeper,
        tally: ModelCounters,
        sample: Sample = lambda _: None,
    ) -> None:
        self.endpoint = endpoint
        self.tally = tally
        self.version_headers = {"x-model-version": endpoint.version, "x-model-id": endpoint.model_id}
        self.version_header_lines = "".join(f"{name}: {value}\r\n" for name, value in self.version_headers.items())
        self.names = response_prefixes(endpoint)
        self.flow = queue_settings_for(endpoint, flow)
        self._keeper = keeper
        self._sample = partial(sample, endpoint.model_id)
        self._pace = Pace()
        self._queue: deque[PendingRequest] = deque()
        self._away: set[PendingRequest] = set()
        self._suspects = Suspects()
        self._judging: set[asyncio.Task[None]] = set()
        self._refusal: ReplicaUnavailable | None = None
        self._changed = asyncio.Event()
        self.streams: set[OpenStream] = set()
        self._gathering = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._wakefulness = BusyPoll(self._loop)
        self.replicas = [self._line(replica) for replica in endpoint.replicas]
        self._left: list[ReplicaClient] = []

    def _line(self, replica: Replica) -> ReplicaClient:
        lost = partial(self._replica_lost, replica)
        return ReplicaClient(replica, self.flow, self._pace, self._freed, lost, self._sample)

    @property
    def _queue_bound(self) -> str:
        """What sets it."""
        return "queue_length in its model_config.yaml" if self.endpoint.bounds.queue_length else "PRISM_QUEUE_LENGTH"

    @property
    def pending(self) -> int:
        return self.queued + len(self._away) + len(self.streams)

    @property
    def queued(self) -> int:
        return len(self._queue) + len(self._suspects.queue)

    async def open(self) -> None:
        """Connect to every replica, so that the first request finds it warm."""
        await asyncio.gather(*(line.open() for line in self.replicas))

    async def reach(self, endpoint: Endpoint) -> list[ReplicaClient]:
        """A line to each of these replicas: those that there are, and new ones, connected, for `switch_replicas`."""
        present = {line.replica: line for line in self.replicas}
        lines = [present.get(replica) or self._line(replica) for replica in endpoint.replicas]
        await asyncio.gather(*(line.open() for line in lines if line.replica not in present))
        return lines

    def switch_replicas(self, endpoint: Endpoint, lines: list[ReplicaClient]) -> list[ReplicaClient]:
        """From now on: what waits goes to these. Returns those left out, which still answer what they have."""
        left = [line for line in self.replicas if line not in lines]
        least = min((line.served for line in self.replicas), default=0)
        for line in lines:  # one that comes has its share, and not all until it has caught up
            line.served = max(line.served, least)
        self.endpoint, self.replicas = endpoint, lines
        self._left += left
        if not self._is_connected and not self._is_coming():
            self._turn_away(self._unavailable())
        self._freed()
        return left

    def leave(self, error: PrismError, losses: tuple[Loss, ...]) -> None:
        """It has left the traffic, and answers what it has; `error` says why whoever comes now is refused."""
        self.endpoint = structs.replace(self.endpoint, outlook=Outlook(losses=losses))
        if isinstance(error, ReplicaUnavailable):
            self._refusal = error
        if not self._is_connected:
            self._turn_away(error)
        self.stir()

    def holds(self, line: ReplicaClient) -> bool:
        """Whether that replica has something left to do: requests in hand, or, unless it was left out, in the queue."""
        return bool(line.batches_away or line.streams or (self.queued and line in self.replicas))

    async def release_replica(self, line: ReplicaClient) -> None:
        """Close its line; what it has not answered is tried elsewhere, or failed. Its streams end."""
        for stream in [one for one in self.streams if one.line is line]:
            stream.end(self._unavailable())
        self.replicas = [one for one in self.replicas if one is not line]
        self._left = [one for one in self._left if one is not line]
        await line.close()
        self.stir()

    def _turn_away(self, error: PrismError) -> None:
        """Nothing will answer what waits."""
        for one in (*self._queue, *(each.waiting for each in self._suspects.queue)):
            one.fail(error)
        self._queue.clear()
        self._suspects.drop_settled()
        for stream in [one for one in self.streams if one.line is None]:
            stream.end(error)

    def submit(self, waiting: PendingRequest, now: float) -> None:
        """Queue it. Raises Overloaded if the queue is full, ReplicaUnavailable if nothing can or will answer."""
        if len(self._queue) >= self.flow.queue_length:
            self._dispatch_ready()
            if len(self._queue) >= self.flow.queue_length:
                raise Overloaded(
                    f"{len(self._queue)} requests already wait for `{self.endpoint.name}`.",
                    hint=f"Send less at a time, or raise {self._queue_bound}.",
                )
        if not self._may_wait(now):
            raise self._unavailable()
        waiting.arrived = now
        waiting.deadline = now + self.flow.timeout_seconds
        self._queue.append(waiting)
        if len(self._queue) >= self.flow.max_batch_size:
            self._dispatch_ready()
        elif not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._flush)

    def admit_stream(self, stream: OpenStream, now: float) -> None:
        """Raises Overloaded if as many are open as may be, ReplicaUnavailable if nothing can or will answer."""
        if len(self.streams) >= self.flow.max_streams:
            raise Overloaded(
                f"{len(self.streams)} streams of `{self.endpoint.name}` are already open.",
                hint="Close one, or raise PRISM_MAX_STREAMS.",
            )
        if not self._may_wait(now):
            raise self._unavailable()
        self.streams.add(stream)

    def replica_for_stream(self, now: float) -> ReplicaClient | None:
        """The replica that has least to do; None while one is coming: see `changes`.

        Raises ReplicaUnavailable if none may be tried.
        """
        lines = [line for line in self.replicas if line.usable(now)]
        if lines:
            return min(lines, key=lambda line: (line.is_withheld, line.streams + line.batches_away, line.served))
        if not self._is_coming():
            raise self._unavailable()
        return None

    async def changes(self) -> None:
        """Wait until another replica may be tried, or none is coming any more."""
        await self._changed.wait()

    def stir(self) -> None:
        """Have streams that wait for a replica look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _may_wait(self, now: float) -> bool:
        return self._usable(now) or self._is_coming()

    def _is_coming(self) -> bool:
        """Whether one is on its way, or the keeper of one that was lost a moment ago has not said yet that none is."""
        return self.endpoint.outlook.coming or any(line.looked_after for line in self.replicas)

    def _usable(self, now: float) -> bool:
        """A loop, as this is asked for every request and a generator would take longer than the answer."""
        for line in self.replicas:  # noqa: SIM110
            if line.usable(now):
                return True
        return False

    @property
    def _is_connected(self) -> bool:
        return any(line.connected for line in self.replicas)

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
        if self._refusal is not None:
            return self._refusal
        if self._is_connected:
            return ReplicaUnavailable(
                f"`{self.endpoint.name}` does not answer its own sample any more; "
                "it is left alone for a moment, then tried again.",
                hint=f"Read its log: prism models logs {self.endpoint.name}.",
            )
        return ReplicaUnavailable(f"No replica of `{self.endpoint.name}` answers right now; it is being replaced.")

    def _freed(self) -> None:
        """A replica is there again, or its circuit opened or closed."""
        self.stir()
        if self.queued and not self._may_wait(monotonic()):
            self._turn_away(self._unavailable())
        self._dispatch_ready()

    def _flush(self) -> None:
        self._gathering = False
        self._dispatch_ready()

    def _dispatch_ready(self) -> None:
        """Send what waits to whoever is idle, and full batches to whoever has room; else the window ends the wait."""
        if self._suspects.queue:
            self._try_suspects()
        while self._queue:
            now = monotonic()
            full = len(self._queue) >= self.flow.max_batch_size
            line = self._choose(now, full)
            if line is None:
                self._arm_window(now)
                return
            self._send(line, now)

    def _choose(self, now: float, full: bool) -> ReplicaClient | None:
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
            self._dispatch_ready()

    def _send(self, line: ReplicaClient, now: float) -> None:
        batch: list[PendingRequest] = []
        while self._queue and len(batch) < self.flow.max_batch_size:
            waiting = self._queue.popleft()
            if not waiting.settled:  # its client has gone, or its time was over
                batch.append(waiting)
        if batch:
            if len(batch) == 1:
                self._wakefulness.stir(now)
            self._away.update(batch)
            line.send(batch, lambda result: self._settle(line, batch, now, result))

    def _settle(self, line: ReplicaClient, batch: list[PendingRequest], sent: float, result: Batch | Lost) -> None:
        if isinstance(result, Lost):
            self._lose(line, batch, result)
        else:
            self._away.difference_update(batch)
            self._answer(batch, sent, result)
        self._dispatch_ready()

    def _lose(self, line: ReplicaClient, batch: list[PendingRequest], lost: Lost) -> None:
        """A prediction has no side effect: what the replica had not begun is queued again, what it was at is suspect."""
        if not lost.begun:
            self._away.difference_update(batch)
            self._queue_again(batch, line.fault)
            return
        suspects = suspects_of(batch)
        if not lost.alone:
            self._away.difference_update(batch)
            self._queue_alone(suspects, line.fault)
        self._judge(line, suspects, alone=lost.alone)

    def _queue_again(self, batch: list[PendingRequest], fault: str = "") -> None:
        """In front, as they have waited already. fault: how their replica broke the protocol, "" if it did not."""
        live = [one for one in batch if not one.settled]
        if self._may_wait(monotonic()):
            self._queue.extendleft(reversed(live))
        else:
            self._refuse(live, fault)

    def _queue_alone(self, suspects: list[Suspect], fault: str) -> None:
        live = [one for one in suspects if not one.waiting.settled]
        if self._may_wait(monotonic()):
            self._suspects.queue.extend(live)
        else:
            self._refuse((one.waiting for one in live), fault)

    def _refuse(self, requests: Iterable[PendingRequest], fault: str = "") -> None:
        for one in requests:
            one.fail(ReplicaProtocolError.of(fault) if fault else self._unavailable())

    def _try_suspects(self) -> None:
        now = monotonic()
        suspect = self._suspects.next(self.replicas, now, others_come=self._is_coming())
        line = self._suspects.line
        if suspect is not None and line is not None:
            self._away.add(suspect.waiting)
            line.send([suspect.waiting], lambda result: self._settle_suspect(line, suspect, now, result))

    def _settle_suspect(self, line: ReplicaClient, suspect: Suspect, sent: float, result: Batch | Lost) -> None:
        self._suspects.returned(suspect)
        if isinstance(result, Lost):
            suspect.losses += 1
            self._judge(line, [suspect], alone=True)
            self._dispatch_ready()
        else:
            self._settle(line, [suspect.waiting], sent, result)

    def _judge(self, line: ReplicaClient, suspects: list[Suspect], *, alone: bool) -> None:
        """In the background: what ended their replica decides how, and whether, they are tried again."""
        task = self._loop.create_task(self._judged(line, suspects, alone=alone))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judged(self, line: ReplicaClient, suspects: list[Suspect], *, alone: bool) -> None:
        fault = line.fault
        loss = None if fault else await self.loss_of(line)
        for one in suspects:
            one.may_risk_the_last = loss is None or not loss.by_itself
        if alone:
            self._away.difference_update(one.waiting for one in suspects)
            for one in suspects:
                if is_cause(one, loss):
                    self._queue_again(self._suspects.cleared_by(one))
                    one.waiting.fail(ReplicaProtocolError.of(fault) if fault else told(self.endpoint.name, loss))
                else:
                    self._queue_alone([one], fault)
        self._dispatch_ready()

    async def loss_of(self, line: ReplicaClient) -> Loss | None:
        """What ended a replica, once its keeper has said it; None if it serves on, or nobody looks after it."""
        while True:
            found = next((one for one in self.endpoint.outlook.losses if one.replica_id == line.replica.id), None)
            if found is not None or not line.looked_after or line not in self.replicas:
                return found
            await self.changes()

    def _answer(self, batch: list[PendingRequest], sent: float, result: Batch) -> None:
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

    def _log_timings(self, batch: list[PendingRequest], sent: float, now: float, result: Batch) -> None:
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

    def _replica_lost(self, replica: Replica, reason: str) -> bool:
        has_keeper = bool(self._keeper(replica, reason))
        if not has_keeper and not self._may_wait(monotonic()):
            self._turn_away(self._unavailable())
        return has_keeper

    def sweep(self, now: float, overslept: float) -> None:
        """Called every tenth of a second: ends what is past its deadline, drops what nobody waits for any more, and
        asks silent replicas for a sign. overslept: how much later than that it is called, in seconds."""
        suspects = [one.waiting for one in self._suspects.queue]
        for one in [one for one in (*self._away, *self._queue, *suspects) if one.deadline <= now]:
            one.fail(self._late(one))
        if any(one.settled for one in self._queue):
            self._queue = deque(one for one in self._queue if not one.settled)
        self._suspects.drop_settled()
        for line in (*self.replicas, *self._left):
            line.watch(now, overslept)
        if any(line.is_held_up for line in self.replicas):
            self._go_around()
        if suspects:
            self._dispatch_ready()

    def _go_around(self) -> None:
        """What waits behind a request that holds its replica up is answered by the others."""
        cause = self._suspects.held_up()
        if cause is not None:
            self._queue_again(self._suspects.cleared_by(cause))
        now = monotonic()
        if any(line.usable(now) and not line.is_withheld for line in self.replicas):
            for line in self.replicas:
                if line.is_held_up:
                    line.recall()
        self._dispatch_ready()

    def _late(self, waiting: PendingRequest) -> ReplicaTimeout:
        """Says where its time went."""
        name, timeout = self.endpoint.name, self.flow.timeout_seconds
        if any(line.is_at(waiting) for line in (*self.replicas, *self._left)):
            return ReplicaTimeout(f"`{name}` did not come to an end with this request within {timeout:g} s.")
        return ReplicaTimeout(
            f"`{name}` did not answer within {timeout:g} s: others were before this request.",
            hint="Send less at a time, or give it more replicas.",
        )

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._judging:
            task.cancel()
        self._turn_away(self._unavailable())
        self._refuse(self._away)
        for stream in list(self.streams):
            stream.end(self._unavailable())
        for line in (*self.replicas, *self._left):
            await line.close()


def response_prefixes(endpoint: Endpoint) -> dict[int, bytes]:
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
