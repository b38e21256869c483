"""What people and the monitor ask for: deploy, start, stop, restart, delete; and what a gateway's own start and end mean.

One job at a time works on a model; asking for something else ends the job that is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from app.core.acceleration import AccelerationStatus
from app.core.model import Deployment, FormName, Model, Replica, Restart, Status, TargetName
from app.core.route_table import serves
from app.errors import Conflict, PrismError, TargetUnavailable
from app.lifecycle.acceleration import Accelerator
from app.lifecycle.buildlog import BuildLog
from app.lifecycle.intake import take_in
from app.lifecycle.ledger import Ledger, utc_now
from app.lifecycle.pipeline import Road
from app.lifecycle.probe import Connect
from app.lifecycle.receive import Upload, discard, remove_torn_uploads
from app.lifecycle.unfold import read_upload
from app.registry.models import folder_size_bytes
from app.runtime.docker_images import model_image

log = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]

RESTARTS_KEPT = 20
ADOPT_TIMEOUT_SECONDS = 1.5
IN_PROGRESS = (
    Status.RECEIVED,
    Status.INSPECTING,
    Status.RESOLVING,
    Status.BUILDING,
    Status.STARTING,
    Status.PROBING,
)


class Deployments:
    """The verbs on deployments. `road` knows the steps, `ledger` what is recorded."""

    def __init__(self, ledger: Ledger, road: Road, connect: Connect) -> None:
        self.ledger = ledger
        self.road = road
        self.acceleration = Accelerator(ledger, road)
        self._connect = connect
        self._jobs: dict[str, asyncio.Task[None]] = {}

    async def accept(self, upload: Upload, *, run: bool, received_ms: float, keep_refused: bool = False) -> Model:
        """Record the upload and set it on its way; see `settled` for the end of it.

        Raises what `read_upload` and `take_in` raise, and then removes what was stored, unless it is kept for another try.
        """
        try:
            if upload.inspection is None:
                upload = await read_upload(upload, self.road.settings.max_upload_mb << 20)
            model = await take_in(upload, self.ledger, self.road.requirements, wanted=run, received_ms=received_ms)
        except BaseException:
            if not keep_refused:
                await discard(upload.folder)
            raise
        if model.unsafe_consent and model.inspection is not None:
            names = ", ".join(danger.name for danger in model.inspection.dangers)
            BuildLog(self.ledger.folder(model.model_id)).write(f"dangerous globals accepted by the owner: {names}")
            log.warning("dangerous globals accepted", model=model.ref, model_id=model.model_id, dangers=names)
        await self.road.publish_now()
        self._begin(model, lambda: self.road.bring_up(model, run=run))
        return model

    def _begin(self, model: Model, work: Work) -> None:
        job = asyncio.create_task(self._finish(model, work), name=f"deploy {model.ref}")
        self._jobs[model.model_id] = job

        def ended(done: asyncio.Task[None]) -> None:
            if self._jobs.get(model.model_id) is done:
                del self._jobs[model.model_id]

        job.add_done_callback(ended)

    async def _finish(self, model: Model, work: Work) -> None:
        try:
            await work()
            await self.acceleration.begin(model.model_id)
        except PrismError as error:
            await self._fall_back(model, error)
        except Exception as error:
            log.exception("a deployment failed unexpectedly", model=model.ref)
            await self._fail(model, PrismError(f"{type(error).__name__}: {error}"))

    async def _fall_back(self, model: Model, error: PrismError) -> None:
        """Where the accelerated form does not start any more, the original still may."""
        now = self.ledger.model(model.model_id) or model
        faster = now.acceleration.status is AccelerationStatus.ACCELERATED
        if not faster or isinstance(error, TargetUnavailable) or serves(self.ledger.deployment(model.model_id)):
            await self._fail(model, error)
            return
        original = await self.acceleration.keep(now, f"its accelerated form does not start: {error}")
        await self._finish(original, lambda: self.road.bring_up(original, run=True))

    async def _fail(self, model: Model, error: PrismError) -> None:
        """Record why. A model whose earlier replica still serves stays live; one whose target is away may come back."""
        BuildLog(self.ledger.folder(model.model_id)).write(f"failed: {error}")
        log.warning("a deployment failed", model=model.ref, model_id=model.model_id, code=error.code, error=str(error))
        status = Status.STOPPED if isinstance(error, TargetUnavailable) else Status.FAILED
        deployment = self.ledger.deployment(model.model_id)
        if serves(deployment):
            status = Status.LIVE
        problem = {**error.problem(), "step": deployment.status}
        await self.ledger.update(model.model_id, status=status, error=problem)
        await self.road.publish_now()

    async def settled(self, model_id: str) -> Deployment:
        """Wait until no job works on the model. The job goes on if the waiter is cancelled."""
        job = self._jobs.get(model_id)
        if job is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(job)
        return self.ledger.deployment(model_id)

    def busy(self, model_id: str) -> bool:
        return model_id in self._jobs

    async def _end_job(self, model_id: str) -> None:
        await self.acceleration.end(model_id)
        job = self._jobs.pop(model_id, None)
        if job is not None:
            job.cancel()
            await asyncio.wait([job])

    async def start(self, model: Model) -> None:
        """Bring a model to life that is built, stopped or failed; one that lives is left alone."""
        deployment = self.ledger.deployment(model.model_id)
        if serves(deployment) or self.busy(model.model_id):
            return
        await self.ledger.update(model.model_id, wanted=True, error=None)
        self._begin(model, lambda: self.road.bring_up(model, run=True))

    async def stop(self, model: Model) -> None:
        """Out of the traffic first, then drained, then stopped."""
        await self._end_job(model.model_id)
        deployment = self.ledger.deployment(model.model_id)
        stopped = Status.FAILED if deployment.status is Status.FAILED else Status.STOPPED
        await self.ledger.update(model.model_id, status=stopped, wanted=False)
        await self.road.publish_now()
        if deployment.replica is not None:
            await self.road.stop_replica(model, deployment.replica)
        await self.ledger.update(model.model_id, replica=None)

    async def restart(self, model: Model) -> None:
        """A new replica takes over from the present one, which serves until then."""
        deployment = self.ledger.deployment(model.model_id)
        if model.lock is None:
            raise Conflict(
                f"`{model.name}` was never built, so it cannot be restarted.",
                hint=f"Start it with POST /models/{model.model_id}/start.",
            )
        await self._end_job(model.model_id)
        if serves(deployment):
            self._begin(model, lambda: self.road.replace_replica(model))
        else:
            await self.start(model)

    async def replace_lost(self, model: Model, restart: Restart) -> None:
        """Bring a new replica in place of one that is gone or answers no more."""
        await self._end_job(model.model_id)
        model = self.ledger.model(model.model_id) or model
        before = self.ledger.deployment(model.model_id)
        restarts = (*before.restarts, restart)[-RESTARTS_KEPT:]
        await self.ledger.update(
            model.model_id, status=Status.UNHEALTHY, restarts=restarts, error={"detail": restart.reason}
        )
        await self.road.publish_now()
        if before.replica is not None:
            await self.road.kill_replica(model, before.replica)
            await self.ledger.update(model.model_id, replica=None)
        self._begin(model, lambda: self.road.replace_replica(model))

    async def delete(self, model: Model) -> list[str]:
        """Remove every trace; returns what was removed, for a person."""
        removed = await self.removal(model)
        await self.stop(model)
        model = self.ledger.model(model.model_id) or model
        used = self._environments_of_others(model)
        if model.target is not None:
            target = self.road.target(model)
            for form in model.forms:
                if form.name is not FormName.ORIGINAL:
                    await target.remove_form(model, form, form.lock.hash in used)
            await target.remove(model, model.lock is None or model.lock.hash in used)
        await self.ledger.remove(model.model_id)
        await self.road.publish_now()
        return removed

    async def removal(self, model: Model) -> list[str]:
        """What `delete` would remove now, for a person: a line for each thing."""
        folder = self.ledger.folder(model.model_id)
        size_kb = await asyncio.to_thread(folder_size_bytes, folder) / 1000
        size = f"{size_kb:.1f} kB" if size_kb < 1000 else f"{size_kb / 1000:.1f} MB"
        found = [f"model {model.ref} ({model.model_id})", f"{folder} ({size})"]
        replica = self.ledger.deployment(model.model_id).replica
        if replica is not None:
            found.append(f"{'container' if replica.target is TargetName.DOCKER else 'process'} {replica.id}")
        if model.target is TargetName.DOCKER and model.lock is not None:
            found.append(f"image {model_image(model.model_id)}")
        used = self._environments_of_others(model)
        unshared = dict.fromkeys(form.lock.hash for form in model.forms if form.lock.hash not in used)
        return found + [f"environment {each}" for each in unshared if model.target is not None]

    def _environments_of_others(self, model: Model) -> set[str]:
        """Hashes of those that stay, because another model uses them."""
        others = (other for other in self.ledger.models() if other.model_id != model.model_id)
        return {form.lock.hash for other in others for form in other.forms}

    async def prune_stale(self) -> list[str]:
        """Drop registry entries whose model is gone, and stop replicas of ours that no entry knows."""
        stale = [one.model_id for one in self.ledger.deployments() if self.ledger.model(one.model_id) is None]
        for model_id in stale:
            await self.ledger.forget(model_id)
        known = {one.replica.id for one in self.ledger.deployments() if one.replica is not None}
        pruned = [f"entry {model_id}" for model_id in stale]
        for target in self.road.targets:
            for replica in await target.replicas():
                working = self.busy(replica.model_id) or self.acceleration.busy(replica.model_id)
                if replica.id not in known and not working:
                    await target.stop(replica, 0)
                    pruned.append(f"replica {replica.id} of {replica.model_id}")
        return pruned

    async def resume(self, *, registry_lost: bool) -> None:
        """After a gateway's start: adopt what runs, bring back what should, remove what nobody knows."""
        known = [model.model_id for model in self.ledger.models()]
        await asyncio.to_thread(remove_torn_uploads, self.ledger.folder(""), known)
        running = [replica for target in self.road.targets for replica in await target.replicas()]
        await asyncio.gather(*(self._resume_one(model, running, registry_lost) for model in self.ledger.models()))
        await self.road.publish_now()
        await self.prune_stale()
        for model in self.ledger.models():
            await self.acceleration.begin(model.model_id)

    async def _resume_one(self, model: Model, running: list[Replica], registry_lost: bool) -> None:
        model = await self.acceleration.take_back(model)
        known = {one.model_id: one for one in self.ledger.deployments()}
        form = model.form.name if model.form else FormName.ORIGINAL
        found = [one for one in running if one.model_id == model.model_id and one.form is form]
        for stray in running:  # a converter that was cut off, or a form that is not wanted any more
            if stray.model_id == model.model_id and stray not in found:
                await self.road.kill_replica(model, stray)
        deployment = known.get(model.model_id)
        if deployment is None:
            await self.ledger.add(model, wanted=bool(found), status=Status.STOPPED)
            deployment = self.ledger.deployment(model.model_id)
        if not deployment.wanted:
            if deployment.status in IN_PROGRESS:  # stored and being built when the gateway ended
                self._begin(model, lambda: self.road.bring_up(model, run=False))
            return
        recorded = deployment.replica.id if deployment.replica is not None else ""
        for replica in found:
            if (replica.id == recorded or registry_lost) and await self._adopts(replica):
                log.info("adopted a running replica", model=model.ref, replica=replica.id)
                live_at = deployment.live_at or utc_now()
                await self.ledger.update(
                    model.model_id, status=Status.LIVE, replica=replica, target=replica.target, live_at=live_at
                )
                return
        await self.ledger.update(model.model_id, replica=None)
        if deployment.status is not Status.FAILED:
            self._begin(model, lambda: self.road.bring_up(model, run=True))

    async def _adopts(self, replica: Replica) -> bool:
        try:
            link, _ = await self._connect(replica, ADOPT_TIMEOUT_SECONDS)
        except PrismError:
            return False
        link.close()
        return True

    async def shut_down(self, *, keep_models: bool) -> None:
        """The gateway ends. Replicas end too, yet stay wanted, so that the next start brings them back."""
        await self.acceleration.close()
        for model_id in list(self._jobs):
            await self._end_job(model_id)
        if keep_models:
            return
        running = [one for one in self.ledger.deployments() if one.replica is not None]
        for one in running:
            status = Status.STOPPED if serves(one) else one.status
            await self.ledger.update(one.model_id, status=status)
        await self.road.publish_now()
        await asyncio.gather(*(self._put_down(one) for one in running))

    async def _put_down(self, deployment: Deployment) -> None:
        model = self.ledger.model(deployment.model_id)
        if model is not None and deployment.replica is not None:
            await self.road.stop_replica(model, deployment.replica)
            await self.ledger.update(model.model_id, replica=None)
