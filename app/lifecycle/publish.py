"""Moves traffic: decides in one step which replicas receive it, and then updates the record."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import structs

from app.core.model import Deployment, ModelVersion, Replica, Restart, Status, TrafficChoice
from app.core.rollout.records import Rollout
from app.core.route import Arm, Route
from app.core.route_table import Loss, RouteTable, is_beside, is_serving
from app.errors import Conflict, NotFound, PrismError, ReplicaUnavailable
from app.lifecycle.state import DeploymentState

RESTARTS_KEPT = 20
STOPPED_FOR_IT = "stopped_for_it"
"""Name in a deployment's metadata: references to the models of other names that were stopped when it became live."""


class Traffic(Protocol):
    """The request side: it takes the current route table, and says when a replica has no work left."""

    async def publish(self, table: RouteTable) -> None: ...

    def shift_traffic(self, name: str, route: Route) -> None: ...

    async def drained(self, replica: Replica, timeout_seconds: float) -> bool: ...

    def has_answered(self, replica: Replica) -> bool: ...


class Publisher:
    """The traffic of all models: which replicas receive it, changed one step at a time.

    Traffic moves before the record says so: a client that reads `live` there may send requests at once.
    single_active: whether a model that becomes live also replaces models of other names.
    """

    def __init__(self, state: DeploymentState, traffic: Traffic, *, single_active: bool) -> None:
        self._state = state
        self._traffic = traffic
        self._single_active = single_active
        self._publishing = asyncio.Lock()

    async def follow(self) -> None:
        """Make the traffic follow the state of the deployments."""
        async with self._publishing:
            await self._traffic.publish(self._state.route_table())

    async def expect(self, model_id: str, *, coming: bool) -> None:
        """Have requests that find no replica wait for one that is starting, or refuse them at once if none is."""
        if self._state.outlook(model_id).coming != coming:
            self._state.expect(model_id, coming=coming)
            await self.follow()

    def has_answered(self, replica: Replica) -> bool:
        return self._traffic.has_answered(replica)

    async def drained(self, replica: Replica, timeout_seconds: float) -> bool:
        return await self._traffic.drained(replica, timeout_seconds)

    def shift_traffic(self, name: str, route: Route) -> None:
        """Split the requests for a name among its versions at once, even while a table is being published.

        Raises Conflict if the route has a version of another name or one that is not wanted, or if an arm that has a
        share is not connected. Then nothing has changed.
        """
        versions = {
            deployment.model_id
            for deployment in self._state.deployments()
            if deployment.name == name and deployment.wanted
        }
        strangers = sorted(route.versions - versions)
        if strangers:
            raise Conflict(f"`{strangers[0]}` is no version of `{name}` that runs, so it cannot be in its route.")
        self._traffic.shift_traffic(name, route)
        self._state.split(name, route)

    async def hand_over(self, model: ModelVersion) -> None:
        """Give every request for a name to a version that serves, at once; the others of the name stay beside it.

        Raises Conflict if the version is not connected; then nothing has changed.
        """
        others = [
            deployment
            for deployment in self._state.deployments()
            if deployment.name == model.name and deployment.wanted and deployment.model_id != model.model_id
        ]
        arms = (Arm(model.model_id, 1.0), *(Arm(other.model_id, 0.0) for other in others))
        self.shift_traffic(model.name, Route(arms))
        await self._state.record(
            self._state.changed(model.model_id, traffic=TrafficChoice.ALL),
            *(self._state.changed(other.model_id, traffic=TrafficChoice.NONE) for other in others),
        )

    async def mark(self, name: str, main: str, passed_over: str = "") -> None:
        """Record which version answers for a name on this host where no split is set, such as after a restart.

        The others of the name run beside it. main: its model_id. passed_over: that of a version to which no rollback is
        to go back.
        """
        if passed_over and self._state.has_deployment(passed_over):
            await self._state.record(self._state.changed(passed_over, passed_over=True))
        sharing = [entry for entry in self._state.deployments() if entry.name == name and entry.wanted]
        if not any(entry.model_id == main for entry in sharing):
            return
        marked = [
            self._state.changed(
                entry.model_id,
                traffic=TrafficChoice.ALL if entry.model_id == main else TrafficChoice.NONE,
                passed_over=entry.passed_over and entry.model_id != main,
            )
            for entry in sharing
        ]
        changed = [
            coming
            for coming, before in zip(marked, sharing, strict=True)
            if (coming.traffic, coming.passed_over) != (before.traffic, before.passed_over)
        ]
        await self._state.record(*changed)

    async def go_live(
        self, model: ModelVersion, replicas: Sequence[Replica], error: dict[str, Any] | None
    ) -> list[Deployment]:
        """Give the traffic to these replicas and take it from what they replace.

        A version whose deployment says so takes no requests for the name, and replaces none, until `shift_traffic` gives
        it a share; see `TrafficChoice`. A version that shares its name with others already never replaces those.
        Returns the other models replaced, as they were.

        error: why there are fewer replicas than wanted; None if there are enough.
        """
        async with self._publishing:
            traffic = self._share_name(model)
            rivals = self.rivals(model.name, model.model_id, kept=serves_beside(model), traffic=traffic)
            for rival in rivals:
                await self._state.update(rival.model_id, status=Status.STOPPED, wanted=False)
            before = self._state.deployment(model.model_id)
            coming = self._state.going_live(model.model_id, replicas, error)
            passed_over = traffic is TrafficChoice.NONE and (before.passed_over or not before.live_at)
            coming = structs.replace(coming, traffic=traffic, passed_over=passed_over)
            if rivals or not is_serving(before):
                others = [f"{rival.name}@{rival.version}" for rival in rivals if rival.name != model.name]
                coming = structs.replace(coming, metadata={**coming.metadata, STOPPED_FOR_IT: others})
            await self._move(coming)
        return rivals

    def rivals(
        self, name: str, model_id: str = "", *, kept: bool, traffic: TrafficChoice = TrafficChoice.ALL
    ) -> list[Deployment]:
        """Return the deployments that a version replaces when it becomes live.

        model_id: "" for one that is not recorded yet. kept: whether it leaves models of other names alone.
        """
        if traffic is TrafficChoice.NONE or (traffic is TrafficChoice.AUTO and self._leading(name, model_id)):
            return []
        return [other for other in self._state.deployments() if self._replaces(name, model_id, kept, other)]

    async def join(self, model: ModelVersion, replica: Replica) -> None:
        """Add one replica to the traffic. Raises Conflict if the model is not wanted any more or has enough."""
        async with self._publishing:
            now = self._state.deployment(model.model_id)
            wanted = self._state.replicas_wanted(model)
            if not now.wanted or len(now.replicas) >= wanted:
                raise Conflict(f"`{model.name}` was stopped or changed in the meantime.")
            replicas = (*now.replicas, replica)
            error = None if len(replicas) >= wanted else degraded(len(replicas), wanted, "others are being started")
            replicas = tuple(sorted(replicas, key=lambda replica: replica.number))
            await self._move(self._state.going_live(model.model_id, replicas, error))

    async def exchange(self, model: ModelVersion, before: Replica, after: Replica) -> None:
        """Replace one replica by another. Raises Conflict if `before` serves no more; then nothing has changed."""
        async with self._publishing:
            now = self._state.deployment(model.model_id)
            if before not in now.replicas or not is_serving(now):
                raise Conflict(f"`{model.name}` was stopped or changed in the meantime.")
            replicas = tuple(after if replica == before else replica for replica in now.replicas)
            error = now.error if len(replicas) < self._state.replicas_wanted(model) else None
            await self._move(self._state.going_live(model.model_id, replicas, error))

    async def leave(self, model: ModelVersion, leaving: Sequence[Replica]) -> None:
        """Take some of a model's replicas out of the traffic; others stay."""
        async with self._publishing:
            now = self._state.deployment(model.model_id)
            staying = tuple(replica for replica in now.replicas if replica not in leaving)
            error = now.error if len(staying) < self._state.replicas_wanted(model) else None
            await self._move(self._state.changed(model.model_id, replicas=staying, error=error))

    async def lose(self, model: ModelVersion, replica: Replica, reason: str, *, by_itself: bool, coming: bool) -> bool:
        """Take a replica that is gone or answers no more out of the traffic. Returns False if it was taken out before.

        by_itself: whether nobody killed or froze it. coming: whether another one is started at once.
        """
        async with self._publishing:
            now = self._state.deployment(model.model_id)
            if replica not in now.replicas or not is_serving(now):
                return False
            staying = tuple(present for present in now.replicas if present != replica)
            error = (
                degraded(len(staying), self._state.replicas_wanted(model), reason) if staying else {"detail": reason}
            )
            status = now.status if staying else Status.UNHEALTHY
            coming = coming or self._state.outlook(model.model_id).coming
            self._state.expect(model.model_id, coming=coming, loss=Loss(replica.id, reason, by_itself))
            await self._move(self._state.changed(model.model_id, replicas=staying, status=status, error=error))
        return True

    async def note_restart(self, model_id: str, restart: Restart) -> None:
        restarts = (*self._state.deployment(model_id).restarts, restart)[-RESTARTS_KEPT:]
        await self._state.update(model_id, restarts=restarts)

    async def forget(self, rival: Deployment) -> None:
        """Clear the replicas in a replaced model's record once they have ended, unless it was started again."""
        with contextlib.suppress(NotFound):
            if self._state.deployment(rival.model_id).replicas == rival.replicas:
                await self._state.update(rival.model_id, replicas=())

    def _share_name(self, model: ModelVersion) -> TrafficChoice:
        """Decide whether a version that becomes live takes the requests for its name, or shares it without any of them.

        Returns ALL or NONE.
        """
        name, traffic = model.name, self._state.deployment(model.model_id).traffic
        rollout = self._state.rollout(name)
        if rollout is not None:
            return self._join_rollout(model, rollout)
        if traffic is TrafficChoice.ALL:
            if not self._share_a_name(name, model.model_id):
                self._state.forget_split(name)
            return traffic
        leading = self._leading(name, model.model_id)
        if not leading and traffic is TrafficChoice.NONE:
            return traffic
        traffic = TrafficChoice.NONE if leading else TrafficChoice.ALL
        main = max(leading, key=lambda other: (is_serving(other), other.live_at, other.created_at), default=None)
        split = self._state.splits.get(name) if leading else None
        split = split or Route((Arm(main.model_id if main else model.model_id, 1.0),))
        present = [
            other.model_id
            for other in self._state.deployments()
            if other.name == name and is_replaceable(model.model_id, other)
        ]
        arms = [Arm(model_id, 0.0) for model_id in (*present, model.model_id) if model_id not in split.versions]
        if present:
            self._state.split(name, Route((*split.arms, *arms), split.mirror))
        return traffic

    def _join_rollout(self, model: ModelVersion, rollout: Rollout) -> TrafficChoice:
        """Have a version that becomes live during a rollout take its share in it; one that is not part of it has none."""
        self._state.hold(rollout)
        split = self._state.splits.get(model.name)
        if split is not None and model.model_id not in split.versions:
            self._state.split(model.name, structs.replace(split, arms=(*split.arms, Arm(model.model_id, 0.0))))
        main = max(rollout.arms, key=lambda arm: arm.weight)
        return TrafficChoice.ALL if model.model_id == main.model_id else TrafficChoice.NONE

    def _leading(self, name: str, model_id: str) -> list[Deployment]:
        """Return the other versions that take the requests for a name now, or will once they are back."""
        split = self._state.splits.get(name)
        return [
            other
            for other in self._state.deployments()
            if other.name == name and is_replaceable(model_id, other) and not is_beside(other, split)
        ]

    def _share_a_name(self, name: str, *model_ids: str) -> bool:
        split = self._state.splits.get(name)
        return split is not None and split.versions.issuperset(model_ids)

    async def _move(self, coming: Deployment) -> None:
        await self._traffic.publish(self._state.route_table(coming))
        await self._state.record(coming)

    def _replaces(self, name: str, model_id: str, kept: bool, other: Deployment) -> bool:
        rival = other.name == name or (self._single_active and not kept and not self._is_kept(other))
        return rival and not self._share_a_name(name, model_id, other.model_id) and is_replaceable(model_id, other)

    def _is_kept(self, other: Deployment) -> bool:
        model = self._state.model(other.model_id)
        return model is not None and serves_beside(model)


def serves_beside(model: ModelVersion) -> bool:
    """Return whether a model and those of other names serve side by side, even where only one model is active.

    Those of the models folder do, and those whose owner said so.
    """
    return bool(model.identity.models_folder) or model.spec.keep


def is_replaceable(model_id: str, other: Deployment) -> bool:
    return other.model_id != model_id and (is_serving(other) or other.status is Status.UNHEALTHY)


def degraded(serving: int, wanted: int, reason: PrismError | str) -> dict[str, Any]:
    """Return the error of a model that serves with too few replicas. It has no status, as no request fails by it."""
    code = reason.code if isinstance(reason, PrismError) else ReplicaUnavailable.code
    hint = "It is restarted, with increasing delays."
    return {"code": code, "detail": f"{serving} of {wanted} replicas serve: {reason}", "hint": hint}
