"""Makes a model of an upload that was read: checks the form's fields, and gives the model a name and a version."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from msgspec import Struct, structs

from app.artifact.consent import allowed_packages, with_consent, word_of
from app.core.environment import Requirements
from app.core.execution import GPU_FORMS, Execution, Gpus, parse_gpus
from app.core.foreign_json import ForeignJsonError, read_json
from app.core.inspection import Format, Inspection
from app.core.model import REPLICAS_MAX, Findings, Identity, ModelVersion, Spec, Status, TrafficChoice
from app.core.model_config import ModelConfig
from app.core.semver import Bump, parse_bump, parse_version
from app.errors import BadInput, Conflict
from app.lifecycle.intake.read_upload import Inspected, place_code
from app.lifecycle.intake.receive import Upload
from app.lifecycle.intake.refusals import refuse_unusable
from app.lifecycle.intake.same_files import keep_once
from app.lifecycle.rollouts.guards import refuse_takeover
from app.lifecycle.state import DeploymentState, utc_now
from app.lifecycle.versions import metadata_of, parent_of
from app.runtime.target import Targets

NAME_LIMIT = 100
TRUE, FALSE = ("true", "1", "yes", "on"), ("", "false", "0", "no", "off")


class Draft(Struct, frozen=True):
    """A version with valid fields that is not recorded yet, so its number may still change.

    inspection: under its owner's word, see `with_consent`.
    """

    model: ModelVersion
    inspection: Inspection
    traffic: TrafficChoice


class Registered(Struct, frozen=True):
    """A version that was accepted and recorded, to be deployed.

    requirements: what its environment must contain. run: whether it is to serve, or only to be built.
    """

    model: ModelVersion
    inspection: Inspection
    requirements: Requirements
    run: bool


async def register(
    inspected: Inspected,
    state: DeploymentState,
    targets: Targets,
    requirements_of: Callable[[ModelVersion, Inspection], Awaitable[Requirements]],
    *,
    run: bool,
) -> Registered:
    """Record the version of an upload that was read.

    requirements_of: raises if no environment could ever satisfy what the artifact and its owner ask for.
    Raises BadInput for a field, Conflict for a version that exists, MissingCode, UnknownPackage or UnsafeArtifact for the file. If the caller is cancelled,
    nothing is left of a version that was recorded already.
    """
    began = monotonic()
    draft = build_version(inspected, state, targets)
    if run:
        refuse_takeover(draft.model.name, state.rollout(draft.model.name), draft.traffic)
    refuse_unusable(
        draft.inspection, allow_unsafe=draft.model.spec.allow_unsafe, code_files=draft.model.spec.code_files
    )
    requirements = await requirements_of(draft.model, draft.inspection)
    await asyncio.to_thread(place_code, inspected)
    others = [(other, state.folder(other.model_id)) for other in state.models()]
    await asyncio.to_thread(keep_once, inspected.upload.artifact, inspected.upload.folder, others)
    try:
        async with state.numbering:
            version = version_of(inspected.upload.texts, draft.model.name, state)  # another may have been recorded
            identity = structs.replace(draft.model.identity, version=version, created_at=utc_now())
            model = structs.replace(draft.model, identity=identity)
            await state.add(model, wanted=run, status=Status.INSPECTING, traffic=draft.traffic)
        await state.note_time(model.model_id, "receive", inspected.upload.received_ms)
        await state.note_time(model.model_id, "inspect", (monotonic() - began) * 1000 + inspected.inspect_ms)
    except asyncio.CancelledError:
        if state.model(draft.model.model_id) is not None:  # nobody would deploy it
            with suppress(OSError):
                await state.remove(draft.model.model_id)
        raise
    return Registered(model, draft.inspection, requirements, run)


def build_version(inspected: Inspected, state: DeploymentState, targets: Targets) -> Draft:
    """Make a version, not recorded yet, from the form and the files; the form wins.

    Raises BadInput for either, Conflict for a version that exists.
    """
    upload, contents = inspected.upload, inspected.contents
    texts, config = upload.texts, contents.config
    name = model_name(texts.get("model_name", ""), upload.artifact.filename)
    version = version_of(texts, name, state)
    traffic = traffic_choice(texts.get("traffic", ""))
    metadata, parent = metadata_of(texts.get("metadata", "")), parent_of(texts.get("parent", ""), name, state)
    trusted = config if upload.models_folder else ModelConfig()  # for an upload, only its form speaks for its owner
    allow_unsafe = boolean("allow_unsafe", texts.get("allow_unsafe", "")) or trusted.allow_unsafe
    allow_packages = allowed_packages((texts.get("allow_packages", ""), *trusted.allowed))
    requirements = texts.get("requirements") or trusted.requirement_lines
    expected_input = sample_of(texts.get("expected_input_json", ""))
    code_files = inspected.code_files
    inspection = with_consent(inspected.with_code, word_of(allow_packages, requirements, code_files))
    execution = execution_of(config, texts.get("gpu", ""), inspection)
    target = target_of(target_name(texts.get("target") or config.target, targets), execution.gpus, targets)
    accelerate = accelerate_choice(texts.get("accelerate") or config.accelerate)
    replicas = replicas_of(texts.get("replicas", ""), config)
    has_side_effects = texts.get("side_effects", "")
    side_effects = boolean("side_effects", has_side_effects) if has_side_effects else config.side_effects
    now = utc_now()
    model = ModelVersion(
        Identity(upload.model_id, name, version, now, upload.models_folder, parent, author_of(metadata, upload)),
        Spec(
            artifact=upload.artifact,
            description=texts.get("model_description") or config.description,
            target=target,
            requirements=requirements,
            python_version=texts.get("python_version") or contents.python_version,
            expected_input=contents.sample if expected_input is None else expected_input,
            code_files=code_files,
            allow_unsafe=allow_unsafe,
            unsafe_consent=now if allow_unsafe and inspection.dangers else "",
            allow_packages=allow_packages,
            packages_consent=now if allow_packages else "",
            accelerate=accelerate,
            bounds=config.bounds,
            calling=contents.calling,
            replicas=replicas,
            keep=is_kept(texts.get("keep", ""), name, state),
            execution=execution,
            metadata=metadata,
            side_effects=side_effects,
        ),
        Findings(inspection),
    )
    return Draft(model, inspection, traffic)


def execution_of(config: ModelConfig, gpu: str, inspection: Inspection) -> Execution:
    """Return how the model is executed. gpu: the form's value.

    Raises BadInput for an invalid `gpu`, and for execution providers of a model that is not in ONNX.
    """
    execution = config.execution
    if gpu:
        chosen = parse_gpus(gpu)
        if chosen is None:
            raise BadInput(f"`gpu` is `{gpu[:50]}`.", hint=f"{GPU_FORMS} In a form field: device=0,1.", field="gpu")
        execution = structs.replace(execution, gpus=chosen)
    if execution.providers and inspection.format is not Format.ONNX:
        raise BadInput(
            f"`execution_providers` apply to onnxruntime, but this model has the format {inspection.format}.",
            hint="Leave them out.",
            field="execution_providers",
        )
    return execution


def target_of(target_name: str | None, wanted: Gpus, targets: Targets) -> str | None:
    """Return the target where the model runs: the preferred one with GPUs for a model that wants some and no target.

    Raises BadInput for GPUs on a target that offers none.
    """
    known = {**targets.offered, **targets.known}  # those of this machine first
    with_gpus = [name for name, target in known.items() if target.offers_gpus]
    if not wanted or target_name in with_gpus:
        return target_name
    if not with_gpus:
        raise BadInput("`gpu` needs a target that offers GPUs, and none does.", hint="Leave `gpu` out.", field="gpu")
    if target_name is not None:
        needed = " or ".join(f"`{name}`" for name in with_gpus)
        raise BadInput(
            f"`gpu` needs the target {needed}: the sandbox of the target `{target_name}` hides all devices.",
            hint=f"Leave `target` out or set it to {' or '.join(with_gpus)}, or leave `gpu` out.",
            field="gpu",
        )
    return with_gpus[0]


def model_name(given: str, filename: str) -> str:
    """Return the given name, otherwise the filename without its extensions. Raises BadInput for an invalid name."""
    name = unicodedata.normalize("NFC", given.strip()) or Path(filename).name.split(".")[0] or "model"
    bad = sorted({char for char in name if char in "/@?#%\\" or not char.isprintable()})
    if bad or len(name) > NAME_LIMIT or name in (".", ".."):
        reason = (
            f"contains {' '.join(map(repr, bad))}" if bad else f"is over {NAME_LIMIT} characters long or not a name"
        )
        raise BadInput(
            f"The model name `{name[:NAME_LIMIT]}` {reason}.",
            hint="Choose a name without / @ ? # % and \\, such as `fraud-detector`.",
            field="model_name",
        )
    return name


def version_of(texts: Mapping[str, str], name: str, state: DeploymentState) -> str:
    """Return the number of a new version: the one that the form gives, otherwise the next one by its `bump`.

    Raises BadInput for an invalid number, Conflict for one that another version has.
    """
    given, bump = texts.get("version", ""), texts.get("bump", "")
    if not given:
        return state.next_version(name, parse_bump(bump))
    version = parse_version(given)
    if bump:
        raise BadInput("The form has both `version` and `bump`.", hint="Leave one of them out.", field="bump")
    if any(model.version == version for model in state.versions(name)):
        free = ", ".join(f"{state.next_version(name, part)} ({part})" for part in Bump)
        raise Conflict(
            f"`{name}@{version}` exists already, and a version never changes.",
            hint=f"The next free ones are {free}. Leave `version` out to have one chosen.",
            field="version",
            next_version=state.next_version(name),
        )
    return version


def author_of(metadata: Mapping[str, Any], upload: Upload) -> str:
    """Return who made a version: the author whom its metadata names, otherwise the address that it came from."""
    author = metadata.get("author")
    return author if isinstance(author, str) and author else upload.address


def traffic_choice(text: str) -> TrafficChoice:
    """Return the form's choice; ALL for "". Raises BadInput."""
    try:
        return TrafficChoice(text) if text else TrafficChoice.ALL
    except ValueError:
        raise BadInput(
            f"`traffic` is `{text[:50]}`, not auto, all or none.",
            hint="all: it takes over once it answers; none: it runs beside the live version without its requests; "
            "auto: none beside a live version, otherwise all.",
            field="traffic",
        ) from None


def boolean(field: str, text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise BadInput(f"`{field}` is `{text[:50]}`, not true or false.", field=field)


def accelerate_choice(text: str) -> str:
    """Return "auto", "off", or "" for the server's setting. Raises BadInput."""
    if text in ("", "auto", "off"):
        return text
    raise BadInput(f"`accelerate` is `{text[:50]}`, not auto or off.", field="accelerate")


def is_kept(text: str, name: str, state: DeploymentState) -> bool:
    """Return whether models of other names keep running beside this one: as the form says, else as its last version.

    Raises BadInput.
    """
    if text:
        return boolean("keep", text)
    versions = state.versions(name)
    return bool(versions) and versions[-1].spec.keep


def replicas_of(text: str, config: ModelConfig) -> int:
    """Return the form's number of replicas, otherwise the configuration's. Raises BadInput."""
    return replica_number(text) if text else config.replicas


def replica_number(given: str | int) -> int:
    """Parse a number of replicas. Raises BadInput unless it is a whole number from 1 to REPLICAS_MAX."""
    text = str(given).strip()
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= REPLICAS_MAX:
        return int(text)
    raise BadInput(
        f"`replicas` is `{text[:50]}`, not a whole number from 1 to {REPLICAS_MAX}.",
        hint="Give the number of copies to run, such as 2; each holds the model in memory.",
        field="replicas",
    )


def sample_of(text: str) -> Any:
    """Parse the sample request; None if there is none. Raises BadInput."""
    if not text:
        return None
    try:
        return read_json(text)
    except ForeignJsonError as error:
        raise BadInput(
            f"The sample request is not JSON: {error}.",
            hint='Give one request the model can answer, for example {"age": 41, "city": "Oslo"}.',
            field="expected_input_json",
        ) from error


def target_name(text: str, targets: Targets) -> str | None:
    """Return the name of a known target, None for the server's choice. Raises BadInput."""
    if text in ("", "auto"):
        return None
    if text not in targets.known:
        names = ", ".join(targets.known)
        raise BadInput(f"There is no target `{text[:50]}`.", hint=f"Targets: auto, {names}.", field="target")
    return text
