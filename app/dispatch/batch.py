"""Joins requests into batches and splits the answers: the request queue of one endpoint, and the replicas it feeds.

No timer makes a request wait for others. Requests that one turn of the event loop has read leave together at once if a
replica is idle; those that arrive while the replica is busy form the next batch. A full batch has nothing to wait for:
it is sent behind the batches in flight, as many as the replica works off soon. The batch window bounds how long any
other batch may form: it is sent once its oldest request has waited that long.
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
from app.dispatch.balance import replica_for_batch, replica_for_stream
from app.dispatch.busy_poll import BusyPoll
from app.dispatch.chaos import ChaosEdge
from app.dispatch.connection import Batch
from app.dispatch.limits import QueueSettings, queue_settings_for
from app.dispatch.pace import Pace
from app.dispatch.replica import Lost, ReplicaClient
from app.dispatch.request import PendingRequest, Reply
from app.dispatch.suspects import Suspect, Suspects, crash_error, is_cause, suspects_of
from app.errors import Overloaded, PrismError, ReplicaProtocolError, ReplicaTimeout, ReplicaUnavailable
from app.observe.tally import ModelCounters
from model_container.contract import frames

log = structlog.get_logger(__name__)


Keeper = Callable[[Replica, str], "bool | None"]
"""Called with (replica, reason) when a replica is silent or gone, so that it is checked; says whether somebody checks
it.
"""

Sample = Callable[[str], bytes | None]
"""Returns the request body that a model is known to answer, by model_id; None while there is none."""


class OpenStream(Protocol):
    """A stream as its lane sees it; see stream.py. client: the client of the replica that answers it."""

    @property
    def client(self) -> ReplicaClient | None: ...

    def end(self, error: PrismError) -> None: ...


class Lane:
    """The bounded request queue of one endpoint, and its replicas, which may change while it serves.

    While no replica can answer, requests wait here for one that is starting, within their timeout. If none is starting,
    they are refused at once.

    sample: the request that decides whether a replica whose requests fail is taken out of use for a moment; see
    trial.py.
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
        self._chaos: ChaosEdge | None = None
        self.replicas = [self._client_of(replica) for replica in endpoint.replicas]
        self._left: list[ReplicaClient] = []

    def _client_of(self, replica: Replica) -> ReplicaClient:
        lost = partial(self._replica_lost, replica)
        client = ReplicaClient(replica, self.flow, self._pace, self._freed, lost, self._sample)
        client.chaos = self._chaos
        return client

    def set_chaos(self, edge: ChaosEdge | None) -> None:
        """Have the answers of all replicas spoilt from now on, or not any more."""
        self._chaos = edge
        for client in (*self.replicas, *self._left):
            client.chaos = edge

    @property
    def _queue_bound(self) -> str:
        """The name of the setting that bounds the queue."""
        return "queue_length in its model_config.yaml" if self.endpoint.bounds.queue_length else "PRISM_QUEUE_LENGTH"

    @property
    def pending(self) -> int:
        return self.queued + len(self._away) + len(self.streams)

    @property
    def queued(self) -> int:
        return len(self._queue) + len(self._suspects.queue)

    async def open(self) -> None:
        """Connect to every replica, so that the first request finds it ready."""
        await asyncio.gather(*(client.open() for client in self.replicas))

    async def reach(self, endpoint: Endpoint) -> list[ReplicaClient]:
        """Return a client for each replica of `endpoint`, for `switch_replicas`; new ones are connected first."""
        present = {client.replica: client for client in self.replicas}
        clients = [present.get(replica) or self._client_of(replica) for replica in endpoint.replicas]
        await asyncio.gather(*(client.open() for client in clients if client.replica not in present))
        return clients

    def switch_replicas(self, endpoint: Endpoint, clients: list[ReplicaClient]) -> list[ReplicaClient]:
        """Send waiting requests to these replicas from now on.

        Returns the removed ones, which still answer what they have.
        """
        left = [client for client in self.replicas if client not in clients]
        least = min((client.served for client in self.replicas), default=0)
        for client in clients:  # a new replica gets its share, not every request until it has caught up
            client.served = max(client.served, least)
        self.endpoint, self.replicas = endpoint, clients
        self._left += left
        if not self._is_connected and not self._is_coming():
            self._turn_away(self._unavailable())
        self._freed()
        return left

    def leave(self, error: PrismError, losses: tuple[Loss, ...]) -> None:
        """Stop taking traffic; requests in hand are still answered. error: why new requests are refused from now on."""
        self.endpoint = structs.replace(self.endpoint, outlook=Outlook(losses=losses))
        if isinstance(error, ReplicaUnavailable):
            self._refusal = error
        if not self._is_connected:
            self._turn_away(error)
        self.stir()

    def holds(self, client: ReplicaClient) -> bool:
        """Return whether a replica has work left: requests or streams in hand, or queued ones unless it was removed."""
        return bool(client.batches_away or client.streams or (self.queued and client in self.replicas))

    async def release_replica(self, client: ReplicaClient) -> None:
        """Close the replica's connections.

        Requests that it has not answered are retried elsewhere or failed; its streams end.
        """
        for stream in [stream for stream in self.streams if stream.client is client]:
            stream.end(self._unavailable())
        self.replicas = [replica for replica in self.replicas if replica is not client]
        self._left = [replica for replica in self._left if replica is not client]
        await client.close()
        self.stir()

    def _turn_away(self, error: PrismError) -> None:
        """Fail every queued request, and every stream without a replica: nothing will answer them."""
        for request in (*self._queue, *(suspect.request for suspect in self._suspects.queue)):
            request.fail(error)
        self._queue.clear()
        self._suspects.drop_settled()
        for stream in [stream for stream in self.streams if stream.client is None]:
            stream.end(error)

    def submit(self, request: PendingRequest, now: float) -> None:
        """Queue a request. Raises Overloaded if the queue is full, ReplicaUnavailable if no replica will answer."""
        if len(self._queue) >= self.flow.queue_length:
            self._dispatch_ready()
            if len(self._queue) >= self.flow.queue_length:
                raise Overloaded(
                    f"{len(self._queue)} requests already wait for `{self.endpoint.name}`.",
                    hint=f"Send less at a time, or raise {self._queue_bound}.",
                )
        if not self._may_wait(now):
            raise self._unavailable()
        request.arrived = now
        request.deadline = now + self.flow.timeout_seconds
        self._queue.append(request)
        if len(self._queue) >= self.flow.max_batch_size:
            self._dispatch_ready()
        elif not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._flush)

    def admit_stream(self, stream: OpenStream, now: float) -> None:
        """Admit a stream. Raises Overloaded if too many are open, ReplicaUnavailable if no replica will answer."""
        if len(self.streams) >= self.flow.max_streams:
            raise Overloaded(
                f"{len(self.streams)} streams of `{self.endpoint.name}` are already open.",
                hint="Close one, or raise PRISM_MAX_STREAMS.",
            )
        if not self._may_wait(now):
            raise self._unavailable()
        self.streams.add(stream)

    def replica_for_stream(self, now: float) -> ReplicaClient | None:
        """Return the replica that has the least to do; None while one is starting: see `changes`.

        Raises ReplicaUnavailable if no replica may be tried.
        """
        client = replica_for_stream(self.replicas, now)
        if client is None and not self._is_coming():
            raise self._unavailable()
        return client

    async def changes(self) -> None:
        """Wait until another replica may be tried, or none is starting any more."""
        await self._changed.wait()

    def stir(self) -> None:
        """Wake the streams that wait for a replica, so that they look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _may_wait(self, now: float) -> bool:
        return self._usable(now) or self._is_coming()

    def _is_coming(self) -> bool:
        """Return whether a replica is starting, or the health monitor has yet to rule out that one is."""
        return self.endpoint.outlook.coming or any(client.looked_after for client in self.replicas)

    def _usable(self, now: float) -> bool:
        """Return whether any replica may be tried. Every request asks this, and a generator is slower than a loop."""
        for client in self.replicas:  # noqa: SIM110
            if client.usable(now):
                return True
        return False

    @property
    def _is_connected(self) -> bool:
        return any(client.connected for client in self.replicas)

    @property
    def circuit(self) -> State:
        """The best state among the replicas' circuit breakers: closed if any is closed."""
        states = set(self.circuits.values())
        return next((state for state in (State.CLOSED, State.HALF_OPEN) if state in states), State.OPEN)

    @property
    def circuits(self) -> dict[Replica, State]:
        """The state of each replica's circuit breaker."""
        now = monotonic()
        return {client.replica: client.breaker.state(now) for client in self.replicas}

    def _unavailable(self) -> ReplicaUnavailable:
        if self._refusal is not None:
            return self._refusal
        if self._is_connected:
            return ReplicaUnavailable(
                f"`{self.endpoint.name}` no longer answers its own sample; "
                "it gets no requests for a moment, then it is tried again.",
                hint=f"Read its log: `prism logs {self.endpoint.name}`.",
            )
        return ReplicaUnavailable(f"No replica of `{self.endpoint.name}` answers right now; it is being replaced.")

    def _freed(self) -> None:
        """Look at the queue again: a replica is available again, or its circuit opened or closed."""
        self.stir()
        if self.queued and not self._may_wait(monotonic()):
            self._turn_away(self._unavailable())
        self._dispatch_ready()

    def _flush(self) -> None:
        self._gathering = False
        self._dispatch_ready()

    def _dispatch_ready(self) -> None:
        """Send waiting requests to idle replicas, and full batches to those with room; start the window otherwise."""
        if self._suspects.queue:
            self._try_suspects()
        while self._queue:
            now = monotonic()
            full = len(self._queue) >= self.flow.max_batch_size
            client = replica_for_batch(self.replicas, now, full)
            if client is None:
                self._arm_window(now)
                return
            self._send(client, now)

    def _arm_window(self, now: float) -> None:
        if self._timer is None:
            wait = self._queue[0].arrived + self.flow.window_seconds - now
            self._timer = self._loop.call_later(max(0.0, wait), self._window_over)

    def _window_over(self) -> None:
        self._timer = None
        now = monotonic()
        client = replica_for_batch(self.replicas, now, True) if self._queue else None
        if client is not None:
            self._send(client, now)
            self._dispatch_ready()

    def _send(self, client: ReplicaClient, now: float) -> None:
        batch: list[PendingRequest] = []
        while self._queue and len(batch) < self.flow.max_batch_size:
            request = self._queue.popleft()
            if not request.settled:  # its client has gone, or its timeout has passed
                batch.append(request)
        if batch:
            if len(batch) == 1:
                self._wakefulness.stir(now)
            self._away.update(batch)
            client.send(batch, lambda result: self._settle(client, batch, now, result))

    def _settle(self, client: ReplicaClient, batch: list[PendingRequest], sent: float, result: Batch | Lost) -> None:
        if isinstance(result, Lost):
            self._lose(client, batch, result)
        else:
            self._away.difference_update(batch)
            self._answer(batch, sent, result)
        self._dispatch_ready()

    def _lose(self, client: ReplicaClient, batch: list[PendingRequest], lost: Lost) -> None:
        """Handle the loss of a batch. Retrying is safe, as a prediction has no side effect unless its owner says so.

        Requests that the replica had not begun are queued again; those that it was working on become suspects.
        """
        if not lost.begun:
            self._away.difference_update(batch)
            self._queue_again(batch, client.fault)
            return
        for request in batch:
            if self.endpoint.side_effects:
                request.fail(self._not_retried())
            request.lose_replica(self.endpoint.name)
        suspects = suspects_of(batch)
        if not lost.alone:
            self._away.difference_update(batch)
            self._queue_alone(suspects, client.fault)
        self._judge(client, suspects, alone=lost.alone)

    def _not_retried(self) -> ReplicaUnavailable:
        return ReplicaUnavailable(
            f"The replica of `{self.endpoint.name}` was lost while it worked on this request, which is not retried: the "
            "model is declared to have side effects.",
            hint="Find out whether it took effect before you send it again.",
        )

    def _queue_again(self, batch: list[PendingRequest], fault: str = "") -> None:
        """Put requests back at the front of the queue. fault: how their replica broke the protocol, "" if not."""
        live = [request for request in batch if not request.settled]
        if self._may_wait(monotonic()):
            self._queue.extendleft(reversed(live))
        else:
            self._refuse(live, fault)

    def _queue_alone(self, suspects: list[Suspect], fault: str) -> None:
        live = [suspect for suspect in suspects if not suspect.request.settled]
        if self._may_wait(monotonic()):
            self._suspects.queue.extend(live)
        else:
            self._refuse((suspect.request for suspect in live), fault)

    def _refuse(self, requests: Iterable[PendingRequest], fault: str = "") -> None:
        for request in requests:
            request.fail(ReplicaProtocolError.of(fault) if fault else self._unavailable())

    def _try_suspects(self) -> None:
        now = monotonic()
        suspect = self._suspects.next(self.replicas, now, others_come=self._is_coming())
        client = self._suspects.client
        if suspect is not None and client is not None:
            self._away.add(suspect.request)
            client.send([suspect.request], lambda result: self._settle_suspect(client, suspect, now, result))

    def _settle_suspect(self, client: ReplicaClient, suspect: Suspect, sent: float, result: Batch | Lost) -> None:
        self._suspects.returned(suspect)
        if isinstance(result, Lost):
            suspect.losses += 1
            self._judge(client, [suspect], alone=True)
            self._dispatch_ready()
        else:
            self._settle(client, [suspect.request], sent, result)

    def _judge(self, client: ReplicaClient, suspects: list[Suspect], *, alone: bool) -> None:
        """Find out in the background what ended the suspects' replica: it decides how, and whether, to retry them."""
        task = self._loop.create_task(self._judged(client, suspects, alone=alone))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judged(self, client: ReplicaClient, suspects: list[Suspect], *, alone: bool) -> None:
        fault = client.fault
        loss = None if fault else await self.loss_of(client)
        for suspect in suspects:
            suspect.may_risk_the_last = loss is None or not loss.by_itself
        if alone:
            self._away.difference_update(suspect.request for suspect in suspects)
            for suspect in suspects:
                if is_cause(suspect, loss):
                    self._queue_again(self._suspects.cleared_by(suspect))
                    suspect.request.fail(
                        ReplicaProtocolError.of(fault) if fault else crash_error(self.endpoint.name, loss)
                    )
                else:
                    self._queue_alone([suspect], fault)
        self._dispatch_ready()

    async def loss_of(self, client: ReplicaClient) -> Loss | None:
        """Return what ended a replica, once the health monitor knows; None if it serves on, or nobody watches it."""
        while True:
            loss = next((loss for loss in self.endpoint.outlook.losses if loss.replica_id == client.replica.id), None)
            if loss is not None or not client.looked_after or client not in self.replicas:
                return loss
            await self.changes()

    def _answer(self, batch: list[PendingRequest], sent: float, result: Batch) -> None:
        tally, names = self.tally, self.names
        now = monotonic()
        tally.batch_size.observe([len(batch)])
        tally.model_seconds += result.model_us / 1_000_000
        tally.codec_seconds += result.codec_us / 1_000_000
        tally.away_seconds += len(batch) * (now - sent)
        tally.last_at = now
        tally.count(
            [status for request, (_, status, _) in zip(batch, result.answers, strict=True) if not request.settled]
        )
        tally.latency.observe([now - request.arrived for request in batch if not request.settled])
        if self.flow.log_timings:
            self._log_timings(batch, sent, now, result)
        shared = f'batch;desc="{len(batch)}", inference;dur={result.model_us / 1000:.2f}'
        for request, (body, status, form) in zip(batch, result.answers, strict=True):
            if not request.settled:
                request.settled = True
                timing = f"queue;dur={(sent - request.arrived) * 1000:.2f}, {shared}"
                try:
                    reply = Reply(status, form, names.get(form, b""), body, timing)
                    request.answered(reply if form != frames.FORM_BESIDE_IGNORED else self._beside_ignored(reply))
                except Exception:  # an error with one request must not leave the others without an answer
                    log.exception("an answer could not be delivered", model=self.endpoint.name)
                    request.failed(ReplicaProtocolError.of("its answer could not be delivered"))

    def _beside_ignored(self, reply: Reply) -> Reply:
        """Return the answer with the ignored columns apart. Raises FrameError."""
        body, form, ignored = frames.without_ignored(reply.body)
        return Reply(reply.status, form, self.names.get(form, b""), body, reply.timing, ignored)

    def _log_timings(self, batch: list[PendingRequest], sent: float, now: float, result: Batch) -> None:
        for request, (_, status, _) in zip(batch, result.answers, strict=True):
            log.info(
                "predicted",
                model=f"{self.endpoint.name}@{self.endpoint.version}",
                status=status,
                batch=len(batch),
                queue_ms=round((sent - request.arrived) * 1000, 2),
                codec_ms=round(result.codec_us / 1000, 2),
                inference_ms=round(result.model_us / 1000, 2),
                total_ms=round((now - request.arrived) * 1000, 2),
            )

    def _replica_lost(self, replica: Replica, reason: str) -> bool:
        has_keeper = bool(self._keeper(replica, reason))
        if not has_keeper and not self._may_wait(monotonic()):
            self._turn_away(self._unavailable())
        return has_keeper

    def sweep(self, now: float, loop_lag_seconds: float) -> None:
        """Fail requests past their deadline, drop settled ones, and ask silent replicas for a heartbeat.

        Called every tenth of a second. loop_lag_seconds: how much later than that it is called, in seconds.
        """
        suspects = [suspect.request for suspect in self._suspects.queue]
        for request in [request for request in (*self._away, *self._queue, *suspects) if request.deadline <= now]:
            request.fail(self._late(request))
        if any(request.settled for request in self._queue):
            self._queue = deque(request for request in self._queue if not request.settled)
        self._suspects.drop_settled()
        for client in (*self.replicas, *self._left):
            client.watch(now, loop_lag_seconds)
        if any(client.is_held_up for client in self.replicas):
            self._go_around()
        if suspects:
            self._dispatch_ready()

    def _go_around(self) -> None:
        """Have other replicas answer what waits behind a request that holds its replica up."""
        cause = self._suspects.held_up()
        if cause is not None:
            self._queue_again(self._suspects.cleared_by(cause))
        now = monotonic()
        if any(client.usable(now) and not client.is_withheld for client in self.replicas):
            for client in self.replicas:
                if client.is_held_up:
                    client.recall()
        self._dispatch_ready()

    def _late(self, request: PendingRequest) -> ReplicaTimeout:
        """Return the timeout error of a request; it says where the time went."""
        name, timeout = self.endpoint.name, self.flow.timeout_seconds
        if any(client.is_at(request) for client in (*self.replicas, *self._left)):
            return ReplicaTimeout(f"`{name}` did not finish this request within {timeout:g} s.")
        return ReplicaTimeout(
            f"`{name}` did not answer within {timeout:g} s: it was working on earlier requests.",
            hint="Send less at a time, or give the model more replicas.",
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
        for client in (*self.replicas, *self._left):
            await client.close()


def response_prefixes(endpoint: Endpoint) -> dict[int, bytes]:
    """Return, by the form of an answer, the JSON that precedes the runtime's own members.

    Made once, not for each answer.
    """
    name, version, model_id = (
        msgspec.json.encode(text) for text in (endpoint.name, endpoint.version, endpoint.model_id)
    )
    return {
        frames.FORM_NATIVE: b'{"model":%b,"version":%b,"model_id":%b,' % (name, version, model_id),
        **dict.fromkeys(
            (frames.FORM_V2, frames.FORM_V2_BINARY, frames.FORM_GENERATE),
            b'{"model_name":%b,"model_version":%b,' % (name, version),
        ),
    }
