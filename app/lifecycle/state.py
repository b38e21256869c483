"""Everything known about the models here, in one place: the stored records, and the wanted and actual states."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar, Unpack

import structlog
from msgspec import structs

from app.core.acceleration import Acceleration
from app.core.environment import Lock
from app.core.model import Artifact, Deployment, ModelVersion, Replica, Restart, Status, TrafficChoice
from app.core.rollout.records import Rollout
from app.core.rollout.route import rollout_route
from app.core.route import Arm, Route
from app.core.route_table import Endpoint, Loss, Outlook, RouteTable, is_serving, route_table
from app.core.semver import Bump, next_version
from app.core.signature import Signature
from app.errors import NotFound
from app.lifecycle.catalog import Catalog, Change, DeploymentRegistry
from app.lifecycle.logs.build_log import BuildLog

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOSSES_KEPT = 8


class SpecChanges(TypedDict, total=False):
    """What a model's owner can change of its Spec."""

    artifact: Artifact
    replicas: int
    keep: bool


class FindingsChanges(TypedDict, total=False):
    """What a step can change of a model's Findings."""

    target: str
    lock: Lock
    signature: Signature
    sample: Any
    runtime: dict[str, Any]
    acceleration: Acceleration


class DeploymentChanges(TypedDict, total=False):
    """What can change of a Deployment; `updated_at` follows by itself."""

    status: Status
    wanted: bool
    traffic: TrafficChoice
    passed_over: bool
    target: str
    replicas: tuple[Replica, ...]
    live_at: str
    error: dict[str, Any] | None
    restarts: tuple[Restart, ...]
    metadata: dict[str, Any]


def utc_now() -> str:
    """Return the current time in RFC 3339 with microseconds, so that records sort by it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class DeploymentState:
    """The store of models and the registry of deployments, kept consistent.

    It also knows which versions share a name and how its requests are split among them. The weights are in memory only,
    until the catalog records them: after a restart of the gateway, the versions of a name whose `traffic` is NONE get none
    of its requests, see `restore_splits`.
    """

    def __init__(self, store: Catalog, registry: DeploymentRegistry) -> None:
        self._store = store
        self._registry = registry
        self.numbering = asyncio.Lock()  # held from `next_version` to `add`, so that no two versions have one number
        self._outlooks: dict[str, Outlook] = {}  # not recorded: the next gateway finds out for itself
        self._splits: dict[str, Route] = {}
        self._rollouts: dict[str, Rollout] = {}  # those that are active, by name

    def folder(self, model_id: str) -> Path:
        return self._store.folder(model_id)

    def model(self, model_id: str) -> ModelVersion | None:
        return self._store.get(model_id)

    def models(self) -> tuple[ModelVersion, ...]:
        return self._store.all()

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Return the models of this name, the oldest first."""
        return self._store.versions(name)

    def deployments(self) -> tuple[Deployment, ...]:
        return self._registry.all()

    def has_deployment(self, model_id: str) -> bool:
        return self._registry.get(model_id) is not None

    def deployment(self, model_id: str) -> Deployment:
        """Return the deployment of a model. Raises NotFound for a model_id that the registry does not know."""
        deployment = self._registry.get(model_id)
        if deployment is None:
            raise NotFound(f"The registry has no entry for `{model_id}`.", hint="`prism ls` lists all models.")
        return deployment

    def replicas_wanted(self, model: ModelVersion) -> int:
        """Return the number of replicas that the record says now: it may have changed since `model` was read."""
        return (self._store.get(model.model_id) or model).spec.replicas

    def find(self, ref: str) -> ModelVersion:
        """Find a model by model_id, `name@version` or name. Raises NotFound.

        A name stands for the version that serves, otherwise for the newest one. If several share the name, it stands
        for the one with the greatest share of the requests, of those that serve if any does.
        """
        exact = self._store.get(ref)
        if exact is not None:
            return exact
        matches = self._versions_of(ref)
        if not matches:
            raise self._unknown(ref)
        endpoint = self._routes_of(ref).endpoint(ref)
        serving = self._store.get(endpoint.model_id) if endpoint is not None else None
        split = self._splits.get(ref)
        main = self._store.get(split.main.model_id) if split is not None else None
        return serving or main or matches[-1]

    def _unknown(self, ref: str) -> NotFound:
        """Return an error that names the nearest model, or the versions of a model that exists."""
        name, at, version = ref.partition("@")
        if at and (versions := self.versions(name)):
            listed = ", ".join(model.version for model in versions[-10:])
            return NotFound(
                f"`{name}` has no version {version[:50]}.", hint=f"Its versions are {listed}.", ref=ref[:200]
            )
        near = difflib.get_close_matches(name, {model.name for model in self.models()}, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else "`prism ls` lists all models."
        return NotFound(f"There is no model `{ref[:200]}`.", hint=hint, ref=ref[:200])

    def route(self, name: str) -> Route | None:
        """Return which versions answer the requests for a name now; None if none does."""
        return self._routes_of(name).routes.get(name)

    def live_endpoint(self, ref: str) -> Endpoint | None:
        """Return the endpoint of the version that takes the traffic of a reference; None if none does."""
        return self._routes_of(ref).live.get(ref)

    def route_table(self, *coming: Deployment) -> RouteTable:
        """Build the route table. coming: deployments that replace what is recorded for their models."""
        deployments = {deployment.model_id: deployment for deployment in (*self._registry.all(), *coming)}
        return route_table(deployments.values(), self._outlooks, self._splits)

    def _routes_of(self, ref: str) -> RouteTable:
        """Build the part of the route table that a look-up of one reference needs."""
        model_ids = (*(model.model_id for model in self._versions_of(ref)), ref)
        deployments = [deployment for model_id in model_ids if (deployment := self._registry.get(model_id)) is not None]
        return route_table(deployments, self._outlooks, self._splits)

    def _versions_of(self, ref: str) -> list[ModelVersion]:
        """Return the versions to which a name or `name@version` can refer, the oldest first."""
        return [model for model in self.versions(ref.partition("@")[0]) if ref in (model.name, model.ref)]

    @property
    def splits(self) -> Mapping[str, Route]:
        """How the requests for a name are split, for each name that versions share."""
        return MappingProxyType(self._splits)

    def split(self, name: str, route: Route) -> None:
        """Set which versions share a name, and how its requests are split among them.

        A version that is stopped or removed leaves the split.
        """
        self._splits[name] = route

    def forget_split(self, name: str) -> None:
        """Have a name lead to its newest live version again."""
        self._splits.pop(name, None)

    def rollout(self, name: str) -> Rollout | None:
        """Return the active rollout of a name, if it has one."""
        return self._rollouts.get(name)

    def hold(self, rollout: Rollout) -> None:
        """Have the requests for a name follow its rollout, from the next route table on.

        No other version takes them over until `release`. Of its versions, those that are not wanted get no share.
        """
        name = rollout.name
        self._rollouts[name] = rollout
        wanted = {entry.model_id for entry in self._registry.all() if entry.name == name and entry.wanted}
        route = rollout_route(rollout).restricted_to(wanted)
        if route is None:
            return
        before = self._splits.get(name)
        beside = sorted((before.versions & wanted) - route.versions) if before is not None else []
        self._splits[name] = structs.replace(route, arms=(*route.arms, *(Arm(other, 0.0) for other in beside)))

    def release(self, rollout: Rollout) -> None:
        """Let other versions take over the requests for a name; until one does, its split stays.

        Does nothing if the name is held by another rollout by now.
        """
        name = rollout.name
        held = self._rollouts.get(name)
        if held is None or held.id != rollout.id:
            return
        del self._rollouts[name]
        split = self._splits.get(name)
        if split is not None:
            self._splits[name] = Route(split.arms, split.mirror)

    def restore_splits(self) -> None:
        """Have the versions that run beside others share their names with them, as they did in the last gateway."""
        names: dict[str, list[Deployment]] = {}
        for deployment in filter(lambda deployment: deployment.wanted, self._registry.all()):
            names.setdefault(deployment.name, []).append(deployment)
        for name, sharing in names.items():
            leading = [deployment for deployment in sharing if deployment.traffic is TrafficChoice.ALL]
            if leading and len(leading) < len(sharing):
                main = max(leading, key=lambda deployment: (deployment.live_at, deployment.created_at))
                others = [Arm(other.model_id, 0.0) for other in sharing if other.traffic is TrafficChoice.NONE]
                self._splits[name] = Route((Arm(main.model_id, 1.0), *others))
        for rollout in self._rollouts.values():
            self.hold(rollout)

    def _leave_split(self, model_id: str) -> list[Deployment]:
        """Give a version's share to those that share its name. If none of them has a share, the split is forgotten.

        Returns the deployment, to be recorded, of one that answers for the name from now on whatever becomes of the split.
        """
        heirs = []
        for name, split in [item for item in self._splits.items() if model_id in item[1].versions]:
            rest = split.restricted_to(split.versions - {model_id})
            if rest is None:
                self.forget_split(name)
                continue
            self._splits[name] = rest
            heir = self._registry.get(rest.main.model_id)
            if heir is not None and heir.traffic is not TrafficChoice.ALL:
                heirs.append(structs.replace(heir, traffic=TrafficChoice.ALL))
        return heirs

    def outlook(self, model_id: str) -> Outlook:
        return self._outlooks.get(model_id, Outlook())

    def expect(self, model_id: str, *, coming: bool, loss: Loss | None = None) -> None:
        """Set what the next route table says about a model: whether a replica is starting, and which one was lost."""
        losses = self.outlook(model_id).losses if loss is None else (*self.outlook(model_id).losses, loss)
        self._outlooks[model_id] = Outlook(coming, losses[-LOSSES_KEPT:])

    def next_version(self, name: str, bump: Bump = Bump.MINOR) -> str:
        """Return 1.0.0 for a new name, otherwise the number after its highest version."""
        return next_version((model.version for model in self.versions(name)), bump)

    async def add(
        self, model: ModelVersion, *, wanted: bool, status: Status, traffic: TrafficChoice = TrafficChoice.ALL
    ) -> None:
        """Record a new model and its deployment. Raises OSError if that fails; then nothing of them is left."""
        deployment = structs.replace(new_deployment(model, wanted=wanted, status=status), traffic=traffic)
        await _to_the_end(self._add(model, deployment))

    async def _add(self, model: ModelVersion, deployment: Deployment) -> None:
        try:
            await self._store.save(model)
            await self._registry.add(deployment)
        except OSError:
            await self._store.take_back(model.model_id)
            raise

    async def enter(
        self,
        model: ModelVersion,
        *,
        wanted: bool,
        status: Status,
        live_at: str = "",
        traffic: TrafficChoice = TrafficChoice.ALL,
    ) -> None:
        """Record a deployment for a model that has a record but no deployment. live_at: since when it serves."""
        deployment = new_deployment(model, wanted=wanted, status=status)
        await self._registry.save(structs.replace(deployment, live_at=live_at, traffic=traffic))

    async def record_spec(self, model_id: str, **changes: Unpack[SpecChanges]) -> ModelVersion:
        """Record what the model's owner changed. Raises OSError; then the record is unchanged."""

        def change(model: ModelVersion) -> ModelVersion:
            return structs.replace(model, spec=structs.replace(model.spec, **changes))

        return _known(model_id, await _to_the_end(self._store.change(model_id, change)))

    async def record_findings(self, model_id: str, **changes: Unpack[FindingsChanges]) -> ModelVersion:
        """Record what a step found out. Raises OSError; then the record is unchanged."""
        return _known(model_id, await _to_the_end(self._store.change(model_id, with_findings(changes))))

    async def note_findings(self, model_id: str, **changes: Unpack[FindingsChanges]) -> ModelVersion:
        """Record findings that hold even if they cannot be written at once."""
        return _known(model_id, await _to_the_end(self._store.note(model_id, with_findings(changes))))

    async def update(self, model_id: str, **changes: Unpack[DeploymentChanges]) -> Deployment:
        deployment = self.changed(model_id, **changes)
        heirs = [] if deployment.wanted else self._leave_split(model_id)
        await self._registry.save(deployment, *heirs)
        return deployment

    def changed(self, model_id: str, **changes: Unpack[DeploymentChanges]) -> Deployment:
        """Return the deployment with these changes, for `record` to store."""
        return structs.replace(self.deployment(model_id), updated_at=utc_now(), **changes)

    def going_live(self, model_id: str, replicas: Sequence[Replica], error: dict[str, Any] | None) -> Deployment:
        """Return the deployment as it will be recorded once its traffic has moved to these replicas.

        Its `live_at` is now, unless it was live before. error: why there are fewer replicas than wanted.
        """
        before = self.deployment(model_id)
        return self.changed(
            model_id,
            status=Status.LIVE,
            wanted=True,
            target=replicas[0].target,
            replicas=tuple(replicas),
            live_at=before.live_at if before.live_at and is_serving(before) else utc_now(),
            error=error,
        )

    async def record(self, *deployments: Deployment) -> None:
        await self._registry.save(*deployments)

    @asynccontextmanager
    async def step(self, model_id: str, status: Status) -> AsyncIterator[None]:
        """Record that a step is under way and, if it succeeds, how many ms it took."""
        await self.update(model_id, status=status)
        BuildLog(self.folder(model_id)).write(f"— {status.value}")
        began = monotonic()
        yield
        await self.note_time(model_id, status.value, (monotonic() - began) * 1000)

    async def note_time(self, model_id: str, step: str, elapsed_ms: float) -> None:
        metadata = self.deployment(model_id).metadata
        timings = {**metadata.get("timings_ms", {}), step: round(elapsed_ms, 1)}
        await self.update(model_id, metadata={**metadata, "timings_ms": timings})

    async def remove(self, model_id: str) -> None:
        """Remove a model: first its files, as an entry without them means nothing.

        Raises OSError if they cannot be removed.
        """
        self._outlooks.pop(model_id, None)
        await _to_the_end(self._remove(model_id, self._leave_split(model_id)))

    async def _remove(self, model_id: str, heirs: list[Deployment]) -> None:
        if heirs:
            await self._registry.save(*heirs)
        await self._store.delete(model_id)
        await self._registry.remove(model_id)

    async def forget(self, model_id: str) -> None:
        """Drop the registry's entry of a model whose record is gone."""
        if heirs := self._leave_split(model_id):
            await self._registry.save(*heirs)
        await self._registry.remove(model_id)


def with_findings(changes: FindingsChanges) -> Change:
    return lambda model: structs.replace(model, findings=structs.replace(model.findings, **changes))


def _known(model_id: str, model: ModelVersion | None) -> ModelVersion:
    if model is None:
        raise NotFound(f"The model `{model_id}` was deleted in the meantime.")
    return model


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Finish a change of the records even if the caller is cancelled: half of it must not stand.

    A cancelled caller goes on once the change is complete, so that whatever it cleans up, or whoever waits for its end,
    sees the records as they are.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a change of the records failed after its caller was cancelled", error=str(error))
        raise


def new_deployment(model: ModelVersion, *, wanted: bool, status: Status) -> Deployment:
    return Deployment(
        model_id=model.model_id,
        name=model.name,
        version=model.version,
        status=status,
        wanted=wanted,
        target=model.target,
        created_at=model.identity.created_at,
        updated_at=utc_now(),
        bounds=model.spec.bounds,
        side_effects=model.spec.side_effects,
    )
