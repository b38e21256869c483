"""REQUEST → PREDICTION, in the order in which it happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from time import monotonic

from app.access.rate_limit import RateLimiter
from app.core.breaker import State
from app.core.chaos import Chaos
from app.core.model import Replica
from app.core.rollout.feedback import Exposure
from app.core.rollout.records import Evidence, ShadowPair
from app.core.route import Route
from app.core.route_table import Endpoint, RouteTable
from app.dispatch.batch import Keeper, Lane, Sample
from app.dispatch.chaos import ChaosEdge
from app.dispatch.limits import QueueSettings
from app.dispatch.replica import ReplicaClient
from app.dispatch.request import AwaitableRequest, Call, PendingRequest, Prediction
from app.dispatch.response import answer_body, answer_headers, content_type
from app.dispatch.rollout.traffic import RolloutTraffic
from app.dispatch.route import Split, refusal
from app.dispatch.stream import Stream, shutting_down
from app.errors import Conflict, PrismError
from app.observe.tally import ModelCounters
from model_container.contract import frames

SWEEP_SECONDS = 0.1


class Dispatcher:
    """The current route table, and the lanes of its endpoints.

    suspect: called with (replica, reason) when a replica gives no heartbeat; must not block. Returns True if the
    health monitor checks the replica now, and publishes a table without it if it is lost.
    sample: returns the request body that a model is known to answer, by model_id; None while there is none.
    tallies: what happened to requests for each registered model, by model_id. refusals: requests that reached no model,
    by error code. flow: the bounds of every lane, where a model's owner set none.
    """

    def __init__(
        self, limits: RateLimiter, flow: QueueSettings, suspect: Keeper, sample: Sample = lambda _: None
    ) -> None:
        self.tallies: dict[str, ModelCounters] = {}
        self.refusals: Counter[str] = Counter()
        self._limits = limits
        self.flow = flow
        self._suspect = suspect
        self._sample = sample
        self._table = RouteTable()
        self._lanes: dict[str, Lane] = {}
        self._by_ref: dict[str, Lane] = {}
        self._splits: dict[str, Split] = {}  # by name; such a name is not in _by_ref
        self._rollouts: dict[str, RolloutTraffic] = {}  # by name
        self._shifted: dict[str, Route] = {}  # since the last publish began
        self._draining: dict[str, tuple[Lane, ReplicaClient]] = {}
        self._chaos: dict[str, ChaosEdge] = {}  # by model_id
        self._sweeper: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes that take traffic."""
        return tuple(self._lanes.values())

    def submit(self, ref: str, caller: str, request: PendingRequest) -> None:
        """Rate limit, route and queue a request of an authenticated caller.

        Raises errors of app.errors if it is refused.
        """
        now = monotonic()
        try:
            request.allowance = self._limits.take(caller, now)
            lane = self._by_ref.get(ref)
            if lane is None:
                self._split(ref).submit(request, now)
            else:
                request.lane = lane
                lane.submit(request, now)
        except PrismError as error:
            self.refusals[error.code] += 1
            raise

    def _split(self, ref: str) -> Split:
        """Return the split of a name whose requests go to several versions. Raises NotFound, or why nothing serves."""
        split = self._splits.get(ref)
        if split is None:
            raise refusal(self._table, ref)
        return split

    def evidence(self, name: str) -> Evidence:
        """Return what was counted of the candidate of a name since its rollout began, which is nothing without one."""
        rollout = self._rollouts.get(name)
        return rollout.ledger.evidence if rollout is not None else Evidence()

    def evidence_by_version(self) -> dict[str, Evidence]:
        """Return the evidence of all rollouts, by the model_id of the candidate or the mirror."""
        return {rollout.judged: rollout.ledger.evidence for rollout in self._rollouts.values() if rollout.judged}

    def take_shadow_pairs(self, name: str) -> list[ShadowPair]:
        """Return what production and the mirror of a name answered to the same requests, since the last call."""
        rollout = self._rollouts.get(name)
        return rollout.take_pairs() if rollout is not None else []

    def take_exposures(self, name: str) -> dict[str, str]:
        """Return which arm of the experiment of a name answers for which keys that came since the last call.

        The keys are digests, see `sealed`; the arms are model_ids.
        """
        rollout = self._rollouts.get(name)
        return rollout.exposures.take() if rollout is not None else {}

    def exposure(self, request_id: str) -> Exposure | None:
        """Return which experiment's arm answered a request, if it is one of the latest; None if that is unknown."""
        found = (rollout.exposures.find(request_id) for rollout in self._rollouts.values())
        return next((exposure for exposure in found if exposure is not None), None)

    def set_chaos(self, model_id: str, chaos: Chaos | None) -> None:
        """Spoil the answers of a version from now on, whichever replicas come and go; None ends that."""
        edge = ChaosEdge(chaos) if chaos is not None else None
        before = self._chaos.pop(model_id, None)
        if edge is not None:
            self._chaos[model_id] = edge
        for lane in self._all_lanes():
            if lane.endpoint.model_id == model_id:
                lane.set_chaos(edge)
        if before is not None:
            before.end()

    def begin(self, call: Call) -> AwaitableRequest:
        """Rate limit, route and queue a request; await its `answer`. Raises errors of app.errors if it is refused."""
        request = AwaitableRequest(call.body, call.options, call.dialect, call.request_id, call.identity)
        self.submit(call.ref, call.caller, request)
        return request

    def stream(self, call: Call) -> Stream:
        """Rate limit and route a request, and return its stream; the caller closes it.

        Raises errors of app.errors if it is refused.
        """
        request = frames.Request(call.body, call.dialect, call.options)
        try:
            allowance = self._limits.take(call.caller, monotonic())
            if self._ending:
                raise shutting_down()
            lane = self._by_ref.get(call.ref)
            if lane is not None:
                return Stream(lane, request, allowance)
            return self._split(call.ref).stream(request, allowance, call.request_id, call.identity)
        except PrismError as error:
            self.refusals[error.code] += 1
            raise

    def open_streams(self, model_id: str) -> int:
        """Return the number of a model's open streams, including those on draining replicas that left the table."""
        return sum(len(lane.streams) for lane in self._all_lanes() if lane.endpoint.model_id == model_id)

    def end_streams(self) -> None:
        """End all streams, as the server shuts down: they could go on for ever."""
        self._ending = True
        for lane in self._all_lanes():
            for stream in list(lane.streams):
                stream.end(shutting_down())

    async def predict(self, call: Call) -> Prediction:
        """Rate limit, route and queue a request, and return its answer. Raises errors of app.errors."""
        request = self.begin(call)
        reply = await request.answer()
        headers = answer_headers(request, reply)
        return Prediction(reply.status, answer_body(request, reply, call.request_id), content_type(reply), headers)

    async def publish(self, table: RouteTable) -> None:
        """Make `table` the current one once its new replicas are connected; replicas that it leaves out start to drain.

        A model that serves keeps its lane whichever replicas come and go: requests that wait there go to the replicas
        that stay, or to the one that is starting. Traffic that is shifted meanwhile stays shifted. The caller publishes
        one table at a time.
        """
        self._shifted.clear()
        endpoints = table.endpoints
        reached = dict(zip(endpoints, await asyncio.gather(*map(self._reach, endpoints.values())), strict=True))
        for name, route in self._shifted.items():
            table = table.with_split(name, route)
        left = [
            (lane, client)
            for lane in self._lanes.values()
            for client in lane.replicas
            if lane.endpoint.model_id not in reached
        ]
        gone = [lane for model_id, lane in self._lanes.items() if model_id not in reached]
        self._lanes = {model_id: lane for model_id, (lane, _) in reached.items()}
        for model_id, (lane, clients) in reached.items():
            left += [(lane, client) for client in lane.switch_replicas(endpoints[model_id], clients)]
        for lane in gone:
            absence = table.absent.get(lane.endpoint.model_id)
            lane.leave(refusal(table, lane.endpoint.model_id), absence.losses if absence is not None else ())
        self._route(table)
        self._forget_gone(table)
        for lane, client in left:
            self._draining[client.replica.id] = lane, client
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())

    def shift_traffic(self, name: str, route: Route) -> None:
        """Split the requests for a name among the arms of a route from now on. It connects to nothing.

        Requests that are queued or under way stay where they are. A table that is being published takes the new route
        over. Raises Conflict if an arm that has a share has no lane; then nothing has changed.
        """
        for arm in route.arms:
            if arm.weight and arm.model_id not in self._lanes:
                raise Conflict(
                    f"No replica of `{arm.model_id}` is connected, so no requests for `{name}` can go there."
                )
        self._shifted[name] = route
        self._route(self._table.with_split(name, route))

    def _route(self, table: RouteTable) -> None:
        """Make `table` the current one. Every endpoint has its lane already."""
        lanes, places = self._lanes, {name: split.place for name, split in self._splits.items()}
        by_ref = {ref: lanes[endpoint.model_id] for ref, endpoint in (*table.awaited.items(), *table.live.items())}
        splits: dict[str, Split] = {}
        for name, route in table.routes.items():
            arms, place = [arm for arm in route.arms if arm.weight], places.get(name, 0.0)
            if route.canary is not None or route.mirror is not None or route.key is not None:
                splits[name] = self._rollout(name, route.rollout_id).split(route, lanes, place)
            elif len(arms) > 1:
                splits[name] = Split([(lanes[arm.model_id], arm.weight) for arm in arms], place)
            if name in splits:
                del by_ref[name]
        for name, rollout in self._rollouts.items():
            if name not in table.routes or table.routes[name].rollout_id != rollout.rollout_id:
                rollout.end_copies()
        self._table, self._by_ref, self._splits = table, by_ref, splits

    async def _reach(self, endpoint: Endpoint) -> tuple[Lane, list[ReplicaClient]]:
        lane = self._lanes.get(endpoint.model_id)
        if lane is not None:
            return lane, await lane.reach(endpoint)
        lane = Lane(endpoint, self.flow, self._suspect, self._tally(endpoint.model_id), self._sample)
        lane.set_chaos(self._chaos.get(endpoint.model_id))
        await lane.open()
        return lane, lane.replicas

    def circuits(self, model_id: str) -> dict[str, State]:
        """Return the state of the circuit breaker of each replica that takes traffic, by replica id."""
        lane = self._lanes.get(model_id)
        return {replica.id: state for replica, state in lane.circuits.items()} if lane is not None else {}

    def _all_lanes(self) -> set[Lane]:
        """Return every lane, including those that left the table and are draining."""
        return {*self._lanes.values(), *(lane for lane, _ in self._draining.values())}

    def _rollout(self, name: str, rollout_id: str) -> RolloutTraffic:
        """Return what is kept of a rollout; an earlier rollout of the name is forgotten."""
        rollout = self._rollouts.get(name)
        if rollout is None or rollout.rollout_id != rollout_id:
            rollout = self._rollouts[name] = RolloutTraffic(rollout_id)
        return rollout

    def _tally(self, model_id: str) -> ModelCounters:
        return self.tallies.setdefault(model_id, ModelCounters())

    def _forget_gone(self, table: RouteTable) -> None:
        for model_id in self.tallies.keys() - table.endpoints.keys() - table.absent.keys():
            del self.tallies[model_id]
        for name in self._rollouts.keys() - table.live.keys() - table.absent.keys():
            del self._rollouts[name]

    async def drained(self, replica: Replica, timeout_seconds: float) -> bool:
        """Wait until a replica that left the table has answered all its requests; False if the timeout passed first."""
        draining = self._draining.pop(replica.id, None)
        if draining is None:
            return True
        lane, client = draining
        deadline = monotonic() + timeout_seconds
        while lane.holds(client) and monotonic() < deadline:
            await asyncio.sleep(0.01)
        done = not lane.holds(client)
        await lane.release_replica(client)
        if not lane.replicas and self._lanes.get(lane.endpoint.model_id) is not lane:
            await lane.close()
        return done

    def has_answered(self, replica: Replica) -> bool:
        """Return whether a replica that takes traffic has answered a request well."""
        lane = self._lanes.get(replica.model_id)
        return lane is not None and any(
            client.has_answered for client in lane.replicas if client.replica.id == replica.id
        )

    async def _sweep(self) -> None:
        now = monotonic()
        while True:
            before = now
            await asyncio.sleep(SWEEP_SECONDS)
            now = monotonic()
            for lane in self._all_lanes():
                if lane.pending:
                    lane.sweep(now, now - before - SWEEP_SECONDS)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for lane in self._all_lanes():
            await lane.close()
