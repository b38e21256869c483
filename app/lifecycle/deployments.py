"""What users and the health monitor ask for: deploy, start, stop, restart, delete; and the gateway's own start and end.

One job at a time works on a model. Asking for something else ends the job that is under way.
"""

from __future__ import annotations

import asyncio

import structlog

from app.core.acceleration import AccelerationStatus
from app.core.model import Deployment, ModelVersion, Replica, Restart, Status, TrafficChoice, VariantName
from app.core.os_errors import as_problem, log_fields
from app.core.route_table import is_serving
from app.errors import Conflict, PrismError, StorageFailed, TargetUnavailable, TooManyOpenFiles
from app.lifecycle.acceleration.accelerator import Accelerator
from app.lifecycle.adoption import Adoption
from app.lifecycle.intake.read_upload import Inspected, read_more_code, read_upload
from app.lifecycle.intake.receive import Upload, discard, remove_torn_uploads
from app.lifecycle.intake.register import Registered, register, replica_number
from app.lifecycle.jobs import Jobs, Work
from app.lifecycle.logs.build_log import BuildLog, error_lines
from app.lifecycle.pipeline import DeploymentPipeline
from app.lifecycle.probe import Connect
from app.lifecycle.removal import removal, remove_build_output
from app.lifecycle.rollouts.guards import refuse_start, refuse_stop
from app.lifecycle.state import DeploymentState, utc_now

log = structlog.get_logger(__name__)

IN_PROGRESS = (
    *(Status.RECEIVED, Status.INSPECTING, Status.RESOLVING, Status.BUILDING),
    *(Status.STARTING, Status.PROBING),
)


class Deployments:
    """The operations on deployments. `pipeline` knows the deployment steps, `state` holds the records."""

    def __init__(self, state: DeploymentState, pipeline: DeploymentPipeline, connect: Connect) -> None:
        self.state = state
        self.pipeline = pipeline
        self.acceleration = Accelerator(state, pipeline)
        self._adoption = Adoption(state, pipeline, connect)
        self._jobs = Jobs()

    async def accept(self, upload: Upload, *, run: bool) -> ModelVersion:
        """Read and record an upload and begin its deployment; `settled` waits for the end of it.

        Raises what `inspect` and `register` raise, and then removes what was stored.
        """
        try:
            registered = await self.register(await self.inspect(upload), run=run)
        except BaseException:
            await discard(upload.folder)
            raise
        return await self.deploy(registered)

    async def inspect(self, upload: Upload) -> Inspected:
        """Have an upload read. Raises what `read_upload` raises; the files then stay."""
        return await read_upload(upload, self.pipeline.readers, self.pipeline.settings.max_upload_mb << 20)

    async def add_code(self, inspected: Inspected, upload: Upload) -> Inspected:
        """Have the code of an upload read again, to which files were added. Raises BadInput for one that is unreadable."""
        return await read_more_code(inspected, upload, self.pipeline.readers)

    async def register(self, inspected: Inspected, *, run: bool) -> Registered:
        """Record the version of an upload. Raises what `register` raises; the files then stay."""
        return await register(inspected, self.state, self.pipeline.targets, self.pipeline.requirements, run=run)

    async def deploy(self, registered: Registered) -> ModelVersion:
        """Begin the deployment of a version that was just recorded."""
        model = registered.model
        if model.spec.unsafe_consent:
            names = ", ".join(danger.name for danger in registered.inspection.dangers)
            BuildLog(self.state.folder(model.model_id)).write(f"dangerous globals accepted by the owner: {names}")
            log.warning("dangerous globals accepted", model=model.ref, model_id=model.model_id, dangers=names)
        if model.spec.allow_packages:
            names = ", ".join(model.spec.allow_packages)
            BuildLog(self.state.folder(model.model_id)).write(f"packages allowed by the owner: {names}")
            log.warning("packages allowed", model=model.ref, model_id=model.model_id, packages=names)
        await self.pipeline.publisher.follow()
        self._begin(model, lambda: self.pipeline.deploy_version(model, registered.requirements, run=registered.run))
        return model

    def _begin(self, model: ModelVersion, work: Work) -> None:
        self._jobs.begin(model.model_id, self._finish(model, work), f"deploy {model.ref}")

    async def _finish(self, model: ModelVersion, work: Work) -> None:
        try:
            await work()
            await self.acceleration.begin(model.model_id)
        except PrismError as error:
            await self._fall_back(model, error)
        except Exception as error:
            problem = as_problem(error)
            if type(problem) is PrismError:
                log.exception("a deployment failed unexpectedly", model=model.ref)
            elif isinstance(error, OSError):
                log.warning("a deployment met a fault of the storage", model=model.ref, **log_fields(error))
            await self._fail(model, problem)

    async def _fall_back(self, model: ModelVersion, error: PrismError) -> None:
        """Deploy the original variant where the accelerated variant does not start any more; otherwise record the failure."""
        now = self.state.model(model.model_id) or model
        faster = now.findings.acceleration.status is AccelerationStatus.ACCELERATED
        if not faster or isinstance(error, TargetUnavailable) or is_serving(self.state.deployment(model.model_id)):
            await self._fail(model, error)
            return
        original = await self.acceleration.keep(now, f"its accelerated variant does not start: {error}")
        await self._finish(original, lambda: self.pipeline.deploy_version(original, run=True))

    async def _fail(self, model: ModelVersion, error: PrismError) -> None:
        """Record why a deployment failed.

        A model whose earlier replicas still serve stays live. One whose target is unavailable is recorded as stopped.
        One that was unhealthy, or was live before and failed for want of storage or file descriptors, is unhealthy: the
        health monitor brings it back.
        """
        BuildLog(self.state.folder(model.model_id)).write(f"failed: {error}")
        log.warning("a deployment failed", model=model.ref, model_id=model.model_id, code=error.code, error=str(error))
        status = Status.STOPPED if isinstance(error, TargetUnavailable) else Status.FAILED
        deployment = self.state.deployment(model.model_id)
        if is_serving(deployment):
            status = Status.LIVE
        elif deployment.status is Status.UNHEALTHY or (
            isinstance(error, StorageFailed | TooManyOpenFiles) and deployment.wanted and deployment.live_at
        ):  # it has served, and is retried
            status = Status.UNHEALTHY
        problem = {**error.problem(), "step": deployment.status}
        await self.state.update(model.model_id, status=status, error=problem)
        await self.pipeline.publisher.follow()

    async def settled(self, model_id: str) -> Deployment:
        """Wait until no job works on the model. The job goes on if the waiter is cancelled."""
        await self._jobs.settled(model_id)
        return self.state.deployment(model_id)

    def busy(self, model_id: str) -> bool:
        return self._jobs.busy(model_id)

    async def _end_job(self, model_id: str) -> None:
        await self.acceleration.end(model_id)
        await self._jobs.end(model_id)

    async def start(
        self, model: ModelVersion, keep: bool | None = None, *, traffic: TrafficChoice = TrafficChoice.ALL
    ) -> None:
        """Start a model that is built, stopped or failed, or give the requests for its name to one that runs beside.

        Does nothing if it answers for its name already or a job works on it. keep: recorded as whether models of other
        names keep running beside it; None leaves that as it is. traffic: of a model that is not wanted; one that is
        keeps its own until it runs.
        """
        deployment = self.state.deployment(model.model_id)
        if self.busy(model.model_id):
            return
        if traffic is not TrafficChoice.NONE:
            refuse_start(model, self.state.rollout(model.name), serves=is_serving(deployment))
        if is_serving(deployment):
            if traffic is TrafficChoice.ALL and deployment.traffic is TrafficChoice.NONE:
                await self.pipeline.publisher.hand_over(model)
                self._begin(model, lambda: self.pipeline.retire_others(model))
            return
        if keep is not None and keep != model.spec.keep:
            model = await self.state.record_spec(model.model_id, keep=keep)
        kept = deployment.traffic if deployment.wanted else traffic
        await self.state.update(model.model_id, wanted=True, traffic=kept, error=None)
        self._begin(model, lambda: self.pipeline.deploy_version(model, run=True))

    async def stop(self, model: ModelVersion) -> None:
        """Take a model out of the traffic, then drain and stop its replicas. Raises Conflict during its rollout."""
        refuse_stop(model, self.state.rollout(model.name))
        await self.halt(model)

    async def halt(self, model: ModelVersion) -> None:
        """Do what `stop` does, also during its rollout."""
        await self._end_job(model.model_id)
        deployment = self.state.deployment(model.model_id)
        stopped = Status.FAILED if deployment.status is Status.FAILED else Status.STOPPED
        await self.state.update(model.model_id, status=stopped, wanted=False)
        await self.pipeline.publisher.follow()
        await self.pipeline.starter.stop_all(model, deployment.replicas)
        await self.state.update(model.model_id, replicas=())

    async def restart(self, model: ModelVersion) -> None:
        """Replace the replicas by new ones, one after another; each serves until its replacement does.

        Raises Conflict if the model was never built.
        """
        deployment = self.state.deployment(model.model_id)
        if model.findings.lock is None:
            raise Conflict(
                f"`{model.name}` was never built, so it cannot be restarted.",
                hint=f"Start it: `prism models start {model.ref}`.",
            )
        await self._end_job(model.model_id)
        if is_serving(deployment):
            self._begin(model, lambda: self.pipeline.replicas.roll(model))
        else:
            await self.start(model)

    async def scale(self, model: ModelVersion, replicas: int) -> None:
        """Set the number of replicas. New ones take traffic once they answer; superfluous ones are drained and stopped.

        A model that does not run takes up the number when it is started. Raises BadInput for an invalid number.
        """
        model = await self.state.record_spec(model.model_id, replicas=replica_number(replicas))
        if self.state.deployment(model.model_id).wanted:
            self._begin(model, self._jobs.behind(model.model_id, lambda: self._adjust(model)))

    async def _adjust(self, model: ModelVersion) -> None:
        """Stop or start replicas until the wanted number serves."""
        if is_serving(self.state.deployment(model.model_id)):
            await self.pipeline.replicas.trim(model)
            await self.pipeline.replicas.fill(self.state.model(model.model_id) or model)

    async def lose(
        self, model: ModelVersion, replica: Replica, reason: str, *, by_itself: bool = True, coming: bool = False
    ) -> bool:
        """Take a replica that is gone or answers no more out of the traffic, and end it.

        Returns False if it was no replica of the model any more. The health monitor has another one started; see
        `refill`. by_itself, coming: see Publisher.lose.
        """
        if not await self.pipeline.publisher.lose(model, replica, reason, by_itself=by_itself, coming=coming):
            return False
        lines = await self.pipeline.starter.last_lines(model, replica)
        restart = Restart(at=utc_now(), reason=reason, lines=error_lines(lines))
        await self.pipeline.publisher.note_restart(model.model_id, restart)
        await self.pipeline.starter.kill(model, replica)
        return True

    async def refill(self, model: ModelVersion, start_missing: Work) -> None:
        """Start missing replicas once no other job works on the model; returns when that has ended."""
        deployment = await self.settled(model.model_id)
        if deployment.wanted and len(deployment.replicas) < self.state.replicas_wanted(model):
            self._begin(model, lambda: self._refill(model, start_missing))
        await self.settled(model.model_id)

    async def _refill(self, model: ModelVersion, start_missing: Work) -> None:
        if not is_serving(self.state.deployment(model.model_id)):
            await self.acceleration.end(model.model_id)
        await start_missing()

    def is_followed(self, model_id: str) -> bool:
        """Return whether other work waits for the end of the job that asks."""
        return self._jobs.is_followed(model_id)

    async def delete(self, model: ModelVersion) -> list[str]:
        """Remove every trace of a model. Returns what was removed, for a person. Raises Conflict during its rollout."""
        refuse_stop(model, self.state.rollout(model.name))
        removed = await self.removal(model)
        await self.stop(model)
        model = self.state.model(model.model_id) or model
        await remove_build_output(model, self.state, self.pipeline)
        await self.state.remove(model.model_id)
        await self.pipeline.publisher.follow()
        return removed

    async def removal(self, model: ModelVersion) -> list[str]:
        """Return what `delete` would remove now, for a person: a line for each thing."""
        return await removal(model, self.state, self.pipeline)

    async def prune_stale(self) -> list[str]:
        """Drop registry entries whose model is gone, and stop replicas of this gateway that no entry lists."""
        return await self._adoption.prune(lambda model_id: self.busy(model_id) or self.acceleration.busy(model_id))

    async def resume(self, *, registry_lost: bool) -> None:
        """Adopt running replicas after a gateway's start, start what should run, and remove what no record lists."""
        known = [model.model_id for model in self.state.models()]
        await asyncio.to_thread(remove_torn_uploads, self.state.folder(""), known)
        self.state.restore_splits()
        running = [replica for target in self.pipeline.targets.offered.values() for replica in await target.replicas()]
        await asyncio.gather(*(self._resume_one(model, running, registry_lost) for model in self.state.models()))
        if registry_lost:
            self.state.restore_splits()
        await self.pipeline.publisher.follow()
        await self.prune_stale()
        for model in self.state.models():
            await self.acceleration.begin(model.model_id)

    async def _resume_one(self, model: ModelVersion, running: list[Replica], registry_lost: bool) -> None:
        model = await self.acceleration.take_back(model)
        if not self.state.has_deployment(model.model_id):
            variant = model.variant.name if model.variant else VariantName.ORIGINAL
            runs = any(replica.model_id == model.model_id and replica.variant is variant for replica in running)
            traffic = TrafficChoice.NONE if runs and self._runs_beside_older(model, running) else TrafficChoice.ALL
            live_at = utc_now() if runs else ""
            await self.state.enter(model, wanted=runs, status=Status.STOPPED, live_at=live_at, traffic=traffic)
        deployment = self.state.deployment(model.model_id)
        adopted = await self._adoption.adopt(model, running, registry_lost=registry_lost)
        if not deployment.wanted:
            if deployment.status in IN_PROGRESS:  # it was being built when the gateway ended
                self._begin(model, lambda: self.pipeline.deploy_version(model, run=False))
        elif len(adopted) < model.spec.replicas and adopted:
            self._begin(model, lambda: self.pipeline.replicas.fill(model))
        elif not adopted and deployment.status is not Status.FAILED:
            self._begin(model, lambda: self.pipeline.deploy_version(model, run=True))

    def _runs_beside_older(self, model: ModelVersion, running: list[Replica]) -> bool:
        """Return whether an older version of the name runs, too: the one that has been trusted with its requests."""
        older = {
            other.model_id
            for other in self.state.versions(model.name)
            if other.identity.created_at < model.identity.created_at
        }
        return any(replica.model_id in older for replica in running)

    async def shut_down(self, *, keep_models: bool) -> None:
        """End all work, as the gateway ends. Replicas are stopped too, unless `keep_models`.

        The models stay wanted, so that the next start brings them back.
        """
        await self.acceleration.close()
        await self._jobs.end_all()
        if keep_models:
            return
        running = [deployment for deployment in self.state.deployments() if deployment.replicas]
        for deployment in running:
            status = Status.STOPPED if is_serving(deployment) else deployment.status
            await self.state.update(deployment.model_id, status=status)
        await self.pipeline.publisher.follow()
        await asyncio.gather(*(self._put_down(deployment) for deployment in running))

    async def _put_down(self, deployment: Deployment) -> None:
        model = self.state.model(deployment.model_id)
        if model is not None:
            await self.pipeline.starter.stop_all(model, deployment.replicas)
            await self.state.update(model.model_id, replicas=())
