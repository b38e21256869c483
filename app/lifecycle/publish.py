"""Moves traffic: decides in one step which replicas receive it, and then updates the record."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import structs

from app.core.model import Deployment, ModelVersion, Replica, Restart, Status
from app.core.route import Arm, Route
from app.core.route_table import Loss, RouteTable, is_serving
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

    async def go_live(
        self, model: ModelVersion, replicas: Sequence[Replica], error: dict[str, Any] | None, *, beside: bool = False
    ) -> list[Deployment]:
        """Give the traffic to these replicas and take it from what they replace.

        Returns the other models replaced, as they were.

        error: why there are fewer replicas than wanted; None if there are enough. beside: replace no version of the
        same name. If one serves or is to come back, the new version gets no requests for the name until `shift_traffic`
        gives it a share. A version that shares its name with others already never replaces those.
        """
        async with self._publishing:
            if beside:
                self._share_name(model)
            elif not self._share_a_name(model.name, model.model_id):
                self._state.forget_split(model.name)
            rivals = self.rivals(model.name, model.model_id, kept=serves_beside(model))
            for rival in rivals:
                await self._state.update(rival.model_id, status=Status.STOPPED, wanted=False)
            before = self._state.deployment(model.model_id)
            coming = self._state.going_live(model.model_id, replicas, error)
            if rivals or not is_serving(before):
                others = [f"{rival.name}@{rival.version}" for rival in rivals if rival.name != model.name]
                coming = structs.replace(coming, metadata={**coming.metadata, STOPPED_FOR_IT: others})
            await self._move(coming)
        return rivals

    def rivals(self, name: str, model_id: str = "", *, kept: bool) -> list[Deployment]:
        """Return the deployments that a version replaces when it becomes live.

        model_id: "" for one that is not recorded yet. kept: whether it leaves models of other names alone.
        """
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

    def _share_name(self, model: ModelVersion) -> None:
        """Have a version share its name with those that it would otherwise replace, without a share of the requests."""
        others = [
            deployment
            for deployment in self._state.deployments()
            if deployment.name == model.name and is_replaceable(model.model_id, deployment)
        ]
        split = self._state.splits.get(model.name)
        if split is None:
            if not others:
                return
            main = max(
                others, key=lambda deployment: (is_serving(deployment), deployment.live_at, deployment.created_at)
            )
            split = Route((Arm(main.model_id, 1.0),))
        joining = [
            model_id
            for model_id in (*(other.model_id for other in others), model.model_id)
            if model_id not in split.versions
        ]
        arms = (*split.arms, *(Arm(model_id, 0.0) for model_id in joining))
        self._state.split(model.name, Route(arms, split.mirror))

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
