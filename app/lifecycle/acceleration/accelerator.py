"""Live first, then faster: converts a live model in a separate replica, and exchanges the variant if that is proven equal.

    check eligibility → resolve and build the converter's environment → convert and compare, in the sandbox → store →
    resolve and build the environment of the faster variant → exchange

The model serves all the while. Any failure leaves it as it is, and its record says why. The converter's output was made
where the model's own code runs, so it is read like an upload and only ever loaded in the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TypedDict, Unpack

import structlog
from msgspec import structs

from app.core.acceleration import AccelerationStatus, Report
from app.core.environment import Lock, Requirements
from app.core.foreign_json import ForeignJsonError, read_json
from app.core.inspection import Pin
from app.core.model import ACCELERATED_FILE, ModelVersion, Variant
from app.core.os_errors import as_problem
from app.core.route_table import is_serving
from app.errors import (
    Conflict,
    NotFound,
    PrismError,
    ReplicaProtocolError,
    ReplicaUnavailable,
    StorageFailed,
    TooManyOpenFiles,
)
from app.lifecycle.acceleration.eligibility import ConversionRejected, ineligible_reason, store, uses
from app.lifecycle.logs.build_log import BuildLog
from app.lifecycle.pipeline import DeploymentPipeline, runtime_requirements
from app.lifecycle.state import DeploymentState

log = structlog.get_logger(__name__)

CONVERT_SECONDS = 300.0
CONVERTERS = ("skl2onnx", "onnx", "onnxruntime")
SHARED = ("onnxruntime", "numpy", "pillow")
"""Packages of the faster variant that have the very versions with which the variants were compared. Pillow only comes
along with a model that takes images.
"""

TRIED = (AccelerationStatus.ACCELERATED, AccelerationStatus.KEPT)


class AccelerationChanges(TypedDict, total=False):
    """What a step can change of an Acceleration."""

    status: AccelerationStatus
    reason: str
    report: Report
    lock: Lock
    converter_lock: Lock


class Accelerator:
    """The acceleration of live models, one at a time, so that live models keep the processor."""

    def __init__(self, state: DeploymentState, pipeline: DeploymentPipeline) -> None:
        self._state = state
        self._pipeline = pipeline
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    def wanted(self, model: ModelVersion) -> bool:
        return (model.spec.accelerate or self._pipeline.settings.accelerate) == "auto"

    def busy(self, model_id: str) -> bool:
        return model_id in self._tasks

    async def take_back(self, model: ModelVersion) -> ModelVersion:
        """Return the model, in its original variant if acceleration was switched off since."""
        if self.wanted(model) or model.findings.acceleration.status is not AccelerationStatus.ACCELERATED:
            return model
        return await self._record(model, AccelerationStatus.OFF, "acceleration is switched off")

    async def begin(self, model_id: str) -> None:
        """Accelerate a model that has just become live, in the background."""
        model = self._state.model(model_id)
        if model is None or self.busy(model_id) or model.findings.acceleration.status in TRIED:
            return
        if not self.wanted(model):
            if model.findings.acceleration.status is not AccelerationStatus.OFF:
                await self._record(model, AccelerationStatus.OFF, "acceleration is switched off")
        elif reason := ineligible_reason(model):
            await self._record(model, AccelerationStatus.KEPT, reason)
        elif is_serving(self._state.deployment(model_id)):
            task = asyncio.create_task(self._run(model_id), name=f"accelerate {model.ref}")
            self._tasks[model_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(model_id, None))

    async def end(self, model_id: str) -> None:
        """Cancel the acceleration under way; nothing of it is left running when this returns."""
        task = self._tasks.get(model_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        for model_id in list(self._tasks):
            await self.end(model_id)

    async def keep(self, model: ModelVersion, reason: str) -> ModelVersion:
        """Return to the original variant for good."""
        return await self._record(model, AccelerationStatus.KEPT, reason)

    async def _run(self, model_id: str) -> None:
        try:
            async with self._turn:
                await self._try(model_id)
        except asyncio.CancelledError:
            await self._put_off(model_id)
            raise
        except Conflict:  # stopped or replaced meanwhile
            await self._put_off(model_id)
        except NotFound:
            return
        except (StorageFailed, TooManyOpenFiles) as reason:  # says nothing about the model
            log.warning("an acceleration was put off", model_id=model_id, reason=str(reason))
            await self._put_off(model_id)
        except (ConversionRejected, PrismError) as reason:
            await self._give_up(model_id, str(reason))
        except Exception as error:
            problem = as_problem(error)
            if isinstance(problem, StorageFailed | TooManyOpenFiles):  # says nothing about the model
                log.warning("an acceleration was put off", model_id=model_id, reason=str(error))
                await self._put_off(model_id)
                return
            log.exception("an acceleration failed unexpectedly", model_id=model_id)
            await self._give_up(model_id, f"the conversion failed: {problem}")

    async def _put_off(self, model_id: str) -> None:
        """Mark the model as pending: it is tried again when it is live again."""
        model = self._state.model(model_id)
        if model is not None and model.findings.acceleration.status is AccelerationStatus.CONVERTING:
            await self._record(model, AccelerationStatus.PENDING, "")

    async def _give_up(self, model_id: str, reason: str) -> None:
        model = self._state.model(model_id)
        if model is not None:
            await self.keep(model, reason)

    async def _record(self, model: ModelVersion, status: AccelerationStatus, reason: str) -> ModelVersion:
        changed = structs.replace(model.findings.acceleration, status=status, reason=reason)
        if status in (AccelerationStatus.KEPT, AccelerationStatus.OFF):
            BuildLog(self._state.folder(model.model_id)).write(f"acceleration: the original variant is kept: {reason}")
        return await self._state.note_findings(model.model_id, acceleration=changed)

    async def _try(self, model_id: str) -> None:
        model = self._state.find(model_id)
        if not is_serving(self._state.deployment(model_id)):
            raise Conflict(f"{model.ref} is not serving.")
        lines = BuildLog(self._state.folder(model_id))
        lines.write("acceleration: live, now looking for a faster variant")
        model = await self._amend(model, status=AccelerationStatus.CONVERTING, reason="")
        model = await self._amend(model, converter_lock=await self._converter_lock(model, lines))
        report = await self._convert(model, lines)
        lock = await self._lock(model, lines)
        model = await self._amend(model, lock=lock, report=report)
        await self._pipeline.build(model, lines, model.accelerated)
        accelerated = structs.replace(model.findings.acceleration, status=AccelerationStatus.ACCELERATED)
        faster = structs.replace(model.findings, acceleration=accelerated)
        await self._exchange(model, structs.replace(model, findings=faster))
        gain = report.speedup.get("1", 0.0)
        lines.write(f"acceleration: now served in ONNX, {gain:g} times as fast for one row ({report.converter})")
        log.info("accelerated", model=model.ref, speedup=report.speedup, converter=report.converter)

    async def _exchange(self, model: ModelVersion, faster: ModelVersion) -> None:
        """Exchange the variant of one replica after another; if one fails, return all of them to their earlier variant."""
        recorded = False

        async def record() -> None:
            nonlocal recorded
            recorded = True
            await self._state.record_findings(model.model_id, acceleration=faster.findings.acceleration)

        try:
            await self._pipeline.replicas.exchange_variant(faster, record)
        except Conflict:  # stopped or replaced meanwhile: the record stands
            if not recorded:
                raise
        except PrismError as error:
            if recorded:
                original = await self._amend(model, status=AccelerationStatus.KEPT, reason=str(error))
                with contextlib.suppress(PrismError):
                    await self._pipeline.replicas.exchange_variant(original, nothing_to_record)
            raise

    async def _amend(self, model: ModelVersion, **changes: Unpack[AccelerationChanges]) -> ModelVersion:
        return await self._state.record_findings(
            model.model_id, acceleration=structs.replace(model.findings.acceleration, **changes)
        )

    async def _converter_lock(self, model: ModelVersion, lines: BuildLog) -> Lock:
        assert model.findings.lock is not None  # the model serves
        packages = (
            *model.findings.lock.packages,
            *CONVERTERS,
            *(("onnxmltools",) if uses(model.findings.lock, "xgboost", "xgboost-cpu") else ()),
        )
        requirements = Requirements(packages, (), (model.findings.lock.python,), "that of the model")
        return await self._pipeline.lock_for(requirements, model, lines)

    async def _lock(self, model: ModelVersion, lines: BuildLog) -> Lock:
        converter = model.findings.acceleration.converter_lock
        assert converter is not None  # it was resolved before
        pins = tuple(
            Pin(name, f"=={version}", "the version with which both variants were compared")
            for name, _, version in (line.partition("==") for line in converter.packages)
            if name in SHARED
        )
        own = tuple(requirement for requirement in runtime_requirements() if not requirement.startswith(SHARED))
        packages = (*(pin.requirement for pin in pins), *own)
        return await self._pipeline.lock_for(
            Requirements(packages, pins, (converter.python,), "that of the model"), model, lines
        )

    async def _convert(self, model: ModelVersion, lines: BuildLog) -> Report:
        """Convert the model, leaving `accelerated/model.onnx` beside the artifact.

        Raises ConversionRejected with the reason.
        """
        variant = model.converter
        assert variant is not None  # its lock was just recorded
        folder = self._state.folder(model.model_id)
        await self._pipeline.build(model, lines, variant)
        (folder / variant.log_folder).mkdir(exist_ok=True)
        try:
            encoded, content = await self._ask(model, variant)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder / variant.log_folder, ignore_errors=True)
            await self._pipeline.target(model).remove_variant(model, variant, environment_in_use=True)
        try:
            report: Report = read_json(encoded, Report)
        except ForeignJsonError as error:
            raise ConversionRejected(f"the converter's report cannot be read: {error}") from error
        if report.reason or not content:
            await self._amend(model, report=report)
            raise ConversionRejected(report.reason or "the converter sent no file")
        await store(folder / ACCELERATED_FILE, content, self._pipeline.readers)
        lines.write(
            f"acceleration: {report.rows_compared} rows agree (largest difference {report.max_difference:.3g}), "
            f"speed-up {report.speedup}"
        )
        return report

    async def _ask(self, model: ModelVersion, variant: Variant) -> tuple[bytes, bytes]:
        try:
            async with self._pipeline.starter.opened(model, variant) as connection, asyncio.timeout(CONVERT_SECONDS):
                return await connection.convert()
        except TimeoutError as error:
            raise ConversionRejected(f"the conversion took longer than {CONVERT_SECONDS:g} s") from error
        except ReplicaProtocolError as error:
            raise ConversionRejected(f"the conversion failed: {error.detail}") from error
        except ReplicaUnavailable as error:
            raise ConversionRejected(
                "the conversion's process ended, perhaps because it ran out of memory (PRISM_MODEL_MEMORY_MB)"
            ) from error


async def nothing_to_record() -> None:
    """Do nothing: the record already names the variant to return to."""
