"""ARTIFACT → SERVICE, in the order in which it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from app.artifact.consent import with_consent, word_of
from app.artifact.requirements import requirements_for
from app.core.environment import Lock, Requirements
from app.core.inspection import Inspection
from app.core.model import Deployment, ModelVersion, Status
from app.lifecycle.intake.readers import Ask, Readers
from app.lifecycle.logs.build_log import BuildLog
from app.lifecycle.probe import Connect
from app.lifecycle.publish import Publisher, Traffic, degraded
from app.lifecycle.replicas import Replicas
from app.lifecycle.settings import DeploymentSettings
from app.lifecycle.start import StartedReplica, Starter
from app.lifecycle.state import DeploymentState
from app.runtime.runtime_config import declares_image
from app.runtime.target import Log, Target, Targets

IMAGES = ("pillow",)
"""What decodes images, for a model whose owner declares that it takes them; others are seen by their file."""

RUNTIME_REQUIREMENTS = Path(__file__).resolve().parent.parent.parent / "model_container" / "requirements.txt"


class Resolve(Protocol):
    async def __call__(
        self, requirements: Requirements, *, log: Log, timeout_seconds: float, platform: str | None = None
    ) -> Lock: ...


class DeploymentPipeline:
    """The steps from a stored artifact to replicas that take traffic; `deploy_version` is the whole of it.

    starter: starts and stops single replicas. publisher: moves the traffic. replicas: changes the replicas of a live
    model. readers: read artifacts, for everything that the gateway learns about them.
    """

    def __init__(
        self,
        *,
        settings: DeploymentSettings,
        state: DeploymentState,
        targets: Targets,
        resolve: Resolve,
        connect: Connect,
        traffic: Traffic,
        ask: Ask,
    ) -> None:
        self.settings = settings
        self.readers = Readers(ask)
        self.targets = targets
        self.publisher = Publisher(state, traffic, single_active=settings.single_active_model)
        self.starter = Starter(settings, state, targets, connect, self.publisher)
        self.replicas = Replicas(state, self.starter, self.publisher)
        self.target = self.starter.target
        self.build = self.starter.build
        self._state = state
        self._resolve_lock = resolve

    async def deploy_version(self, model: ModelVersion, requirements: Requirements | None = None, *, run: bool) -> None:
        """Resolve, build, start, probe and publish a model, recording each step. Raises the failing step's error.

        requirements: of its environment, as `register` found them; None where a stored record is all there is.
        """
        build_log = BuildLog(self._state.folder(model.model_id))
        target = self.target(model)
        if model.findings.lock is None:
            async with self._state.step(model.model_id, Status.RESOLVING):
                requirements = requirements or await self.stored_requirements(model)
                model = await self._resolve(model, requirements, target, build_log)
        async with self._state.step(model.model_id, Status.BUILDING):
            await self.build(model, build_log)
        if not run:
            await self._state.update(model.model_id, status=Status.BUILT, error=None)
            return
        await self._start_all(model)

    async def _start_all(self, model: ModelVersion) -> None:
        """Start, probe and publish the replicas, then drain and stop the earlier ones.

        The earlier ones serve until the new ones can. The traffic moves in one step, so that never fewer replicas serve
        than before. If some do not start, the model goes live all the same.
        """
        before, wanted = self._state.deployment(model.model_id).replicas, self._state.replicas_wanted(model)
        loaded: list[StartedReplica] = []
        try:
            async with self._state.step(model.model_id, Status.STARTING):
                loaded, failures = await self.starter.begin_all(model, range(1, wanted + 1))
                if not loaded:
                    raise failures[0]
            async with self._state.step(model.model_id, Status.PROBING):
                replicas, refused = await self.starter.probe_all(model, loaded)
                if not replicas:
                    raise refused[0]
            reason = next(iter((*failures, *refused)), None)
            error = None if reason is None else degraded(len(replicas), wanted, reason)
            rivals = await self.publisher.go_live(model, replicas, error)
        except BaseException:
            await self.starter.stop_all(model, (started.replica for started in loaded))
            raise
        await self.starter.stop_all(model, before)
        for rival in rivals:
            await self._retire(rival)

    async def retire_others(self, model: ModelVersion) -> None:
        """Stop the other versions of the name of a model that has taken over their requests."""
        self._state.forget_split(model.name)
        now = self._state.deployment(model.model_id)
        for rival in await self.publisher.go_live(model, now.replicas, now.error):
            await self._retire(rival)

    async def _retire(self, rival: Deployment) -> None:
        model = self._state.model(rival.model_id)
        if model is not None:  # None if it was deleted meanwhile
            await self.starter.stop_all(model, rival.replicas)
            await self.publisher.forget(rival)

    async def requirements(self, model: ModelVersion, inspection: Inspection) -> Requirements:
        """Return what the model's environment must contain. inspection: under its owner's word, see `with_consent`.

        Raises BadInput or EnvironmentFailed if no such environment can ever be made.
        """
        images = declares_image(model.spec.calling)
        return requirements_for(
            inspection,
            user_requirements=model.spec.requirements,
            python_version=model.spec.python_version,
            extra_packages=(*runtime_requirements(), *IMAGES) if images else runtime_requirements(),
            available_pythons=await self.target(model).pythons(),
            gpu=bool(model.spec.execution.gpus),
        )

    async def stored_requirements(self, model: ModelVersion) -> Requirements:
        """Return the requirements of a recorded version.

        They hold no package that neither PRISM knows nor the model's owner names, however the package came into the
        record.
        """
        assert model.findings.inspection is not None
        word = word_of(model.spec.allow_packages, model.spec.requirements, model.spec.code_files)
        return await self.requirements(model, with_consent(model.findings.inspection, word))

    async def _resolve(
        self, model: ModelVersion, requirements: Requirements, target: Target, build_log: BuildLog
    ) -> ModelVersion:
        for pin in requirements.pins:
            build_log.write(f"needs {pin.requirement}: {pin.evidence}")
        build_log.write(f"Python {', '.join(requirements.pythons)}: {requirements.python_evidence}")
        lock = await self.lock_for(requirements, model, build_log)
        return await self._state.record_findings(model.model_id, lock=lock, target=target.name)

    async def lock_for(self, requirements: Requirements, model: ModelVersion, build_log: BuildLog) -> Lock:
        """Resolve a lock of packages for the platform where this model runs. Raises EnvironmentFailed."""
        return await self._resolve_lock(
            requirements,
            log=build_log.write,
            timeout_seconds=self.settings.build_timeout_seconds,
            platform=self.target(model).platform,
        )


def runtime_requirements() -> tuple[str, ...]:
    """Return what the runtime itself needs in every environment."""
    lines = (line.split("#")[0].strip() for line in RUNTIME_REQUIREMENTS.read_text().splitlines())
    return tuple(line for line in lines if line)
