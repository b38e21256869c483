"""REQUEST → PREDICTION, in the order in which it happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic

from msgspec import Struct

from app.core.model import Replica
from app.core.route_table import RouteTable
from app.dispatch.admit import Allowance, Keys, RateLimiter
from app.dispatch.batch import Flow, Lane, Reply
from app.dispatch.route import pick
from app.errors import ReplicaUnavailable
from model_container import frames
from model_container.frames import Request

SWEEP_SECONDS = 0.1


class Call(Struct, frozen=True):
    """One predict request, as either door (server.py, api/predict.py) hands it in."""

    ref: str
    body: bytes
    key: str
    address: str
    probabilities: bool = False


class Prediction(Struct, frozen=True):
    """What goes back: the body is whole but for a problem's request id. headers: for both doors alike."""

    status: int
    body: bytes
    problem: bool
    headers: dict[str, str]


class Dispatcher:
    """Holds the current route table and the lanes of its endpoints.

    suspect: called with (model_id, reason) when a replica gives no sign of life; must not block.
    """

    def __init__(self, keys: Keys, limits: RateLimiter, flow: Flow, suspect: Callable[[str, str], None]) -> None:
        self._keys = keys
        self._limits = limits
        self._flow = flow
        self._suspect = suspect
        self._table = RouteTable()
        self._lanes: dict[str, Lane] = {}
        self._draining: dict[str, Lane] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def predict(self, call: Call) -> Prediction:
        """authenticate → limit → route → batch → answer. Raises errors of app.errors."""
        allowance = self._limits.take(self._keys.caller(call.key, call.address), monotonic())
        endpoint = pick(self._table, call.ref)
        options = frames.OPTION_PROBABILITIES if call.probabilities else 0
        lane = self._lanes[endpoint.model_id]
        reply = await lane.submit(Request(call.body, frames.DIALECT_JSON, options))
        return answer(lane, reply, allowance)

    async def publish(self, table: RouteTable) -> None:
        """Make `table` the current one, once its new replicas are connected; those it leaves out start to drain."""
        kept: dict[str, Lane] = {}
        new: dict[str, Lane] = {}
        for model_id, endpoint in table.endpoints.items():
            current = self._lanes.get(model_id)
            if current is not None and current.endpoint.replicas == endpoint.replicas:
                kept[model_id] = current
            else:
                new[model_id] = Lane(endpoint, self._flow, self._suspect)
        await asyncio.gather(*(lane.open() for lane in new.values()))
        left = {lane for model_id, lane in self._lanes.items() if kept.get(model_id) is not lane}
        self._table, self._lanes = table, {**kept, **new}
        for lane in left:
            for replica in lane.endpoint.replicas:
                self._draining[replica.id] = lane
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())

    async def drained(self, replica: Replica, timeout_seconds: float) -> bool:
        """Wait until a replica that left the table has answered all it took; False if time ran out first."""
        lane = self._draining.pop(replica.id, None)
        if lane is None:
            return True
        deadline = monotonic() + timeout_seconds
        while lane.pending and monotonic() < deadline:
            await asyncio.sleep(0.01)
        done = not lane.pending
        await lane.close()
        return done

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = monotonic()
            for lane in (*self._lanes.values(), *self._draining.values()):
                if lane.pending:
                    lane.sweep(now)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for lane in (*self._lanes.values(), *self._draining.values()):
            await lane.close()


def answer(lane: Lane, reply: Reply, allowance: Allowance | None) -> Prediction:
    """Put the endpoint's names in front of what the runtime wrote, without parsing it."""
    endpoint, body = lane.endpoint, reply.answer.body
    head = lane.heads.get(reply.answer.form)
    if head is not None:
        body = head + body[1:]
    elif not body.startswith(b"{"):
        raise ReplicaUnavailable(f"The replica of `{endpoint.name}` sent an answer that is no answer.")
    headers = {
        "X-Model-Version": endpoint.version,
        "X-Model-ID": endpoint.model_id,
        "Server-Timing": f'queue;dur={reply.queue_ms:.2f}, batch;desc="{reply.batch_size}", '
        f"inference;dur={reply.model_ms:.2f}",
    }
    if allowance is not None:
        headers.update(allowance.headers)
    return Prediction(reply.answer.status, body, reply.answer.form == frames.FORM_PROBLEM, headers)
