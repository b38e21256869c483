"""Records of what was uploaded and of what runs. Immutable: a change makes a new record."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from app.core.acceleration import Acceleration, AccelerationStatus
from app.core.address import Address
from app.core.audio import AudioSpec
from app.core.environment import Lock
from app.core.execution import Execution
from app.core.image import ImageSpec
from app.core.inspection import Format, Inspection
from app.core.signature import Signature, Tensor

ACCELERATED_FILE = "accelerated/model.onnx"
REPLICAS_MAX = 64
"""Most replicas of one model on one machine: more than have a core each, few enough to look at one by one."""


class Status(StrEnum):
    """The place of a model on the deployment pipeline, from its artifact to its service.

    BUILT: stored and built, not asked to run. UNHEALTHY: live until now, three checks failed or the replica
    is gone; it is being brought back. FAILED: a step failed for good, `error` says which and why.
    """

    RECEIVED = "received"
    INSPECTING = "inspecting"
    RESOLVING = "resolving"
    BUILDING = "building"
    BUILT = "built"
    STARTING = "starting"
    PROBING = "probing"
    LIVE = "live"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"
    FAILED = "failed"


class TrafficChoice(StrEnum):
    """Whether a version answers the requests for its name while no split of them is set.

    ALL: it takes them over when it becomes live, and the one before stops. NONE: it runs beside the one that answers, and
    only its own references lead to it. AUTO: ALL if no version of the name answers when it becomes live, otherwise NONE.
    """

    ALL = "all"
    NONE = "none"
    AUTO = "auto"


class Artifact(Struct, frozen=True):
    """The immutable model file, or the archive it came in. filename: as uploaded, made safe.

    main: what the runtime loads, below the folder `artifact`; "" for the file as it was uploaded.
    rest_sha256: digest of an entry of the models folder without its number of replicas; "" for an upload.
    """

    filename: str
    sha256: str
    size_bytes: int
    main: str = ""
    rest_sha256: str = ""

    @property
    def file(self) -> str:
        """The path of what the runtime loads, below the model's folder."""
        return f"artifact/{self.main or self.filename}"


class Limits(Struct, frozen=True):
    """The resources that one replica may use. cpus: whole or part cores. threads: of its libraries, 0 for one a core.

    execution_providers: those on which onnxruntime may compute, where the model's owner does not say.
    """

    memory_mb: int = 2048
    cpus: float = 1.0
    pids: int = 256
    threads: int = 0
    execution_providers: tuple[str, ...] = ()


class QueueLimits(Struct, frozen=True):
    """The bounds of one model's queue and batches, named as the settings are. None leaves it to the setting."""

    max_batch_size: int | None = None
    queue_length: int | None = None
    batch_window_ms: float | None = None
    predict_timeout_seconds: float | None = None


class PredictContract(Struct, frozen=True):
    """The way in which a model's owner wants it called, where the artifact does not say it.

    model_container/contract/config.py explains each field.
    """

    method: str = ""
    batchable: bool | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    image: ImageSpec | None = None
    audio: AudioSpec | None = None
    source: str = ""
    strict: bool = True


class VariantName(StrEnum):
    ORIGINAL = "original"
    ACCELERATED = "accelerated"
    CONVERTER = "converter"


class Variant(Struct, frozen=True):
    """One variant of a model that a replica can load, and the packages that go with it.

    format: names the adapter of the runtime. file: below the model's folder. code: whether the owner's code files
    belong to it. log_folder: below the model's folder, where its log is kept.
    """

    name: VariantName
    format: Format
    file: str
    lock: Lock
    code: bool = True
    log_folder: str = ""


class Identity(Struct, frozen=True):
    """The facts that tell one version from every other. They never change.

    models_folder: name of the entry of the models folder that it came from, "" for an upload. parent: number of the
    version of the same name that it was made from, "" for none. created_by: the author whom its metadata names, otherwise
    the address that the upload came from.
    """

    model_id: str
    name: str
    version: str
    created_at: str
    models_folder: str = ""
    parent: str = ""
    created_by: str = ""


class Spec(Struct, frozen=True):
    """The artifact that the owner gave, and what he asked for. It changes only by his word.

    target: None leaves the choice to PRISM. expected_input: the sample that he gave, if any.
    code_files: names of the Python files supplied for classes that the pickle takes from `__main__`.
    unsafe_consent: when he accepted dangerous globals.
    allow_packages: `distribution` or `module=distribution`, which he allowed by name; packages_consent: when.
    accelerate: "auto" or "off", or "" for the server's setting. execution: the hardware on which the model computes.
    replicas: how many are wanted while it is live. keep: whether it and models of other names serve side by side, even
    where only one model is active. metadata: what its owner says of it: metrics, what it was trained on, its commit.
    side_effects: whether a prediction changes something outside the model, so that no caller's request may be sent twice.
    """

    artifact: Artifact
    description: str = ""
    target: str | None = None
    requirements: str = ""
    python_version: str = ""
    expected_input: Any = None
    code_files: tuple[str, ...] = ()
    allow_unsafe: bool = False
    unsafe_consent: str = ""
    allow_packages: tuple[str, ...] = ()
    packages_consent: str = ""
    accelerate: str = ""
    bounds: QueueLimits = QueueLimits()
    calling: PredictContract = PredictContract()
    execution: Execution = Execution()
    replicas: int = 1
    keep: bool = False
    metadata: dict[str, Any] = {}
    side_effects: bool = False


class Findings(Struct, frozen=True):
    """The facts that PRISM found out about a version, each recorded by the step that found it.

    target: where the lock was resolved; None until then.
    sample: a request body (JSON value in a native dialect) known to be answered.
    """

    inspection: Inspection | None = None
    target: str | None = None
    lock: Lock | None = None
    signature: Signature | None = None
    sample: Any = None
    runtime: dict[str, Any] = {}
    acceleration: Acceleration = Acceleration()


class ModelVersion(Struct, frozen=True):
    """One version of a model, as stored beside its artifact in `model.json`."""

    identity: Identity
    spec: Spec
    findings: Findings = Findings()

    @property
    def model_id(self) -> str:
        return self.identity.model_id

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def version(self) -> str:
        return self.identity.version

    @property
    def target(self) -> str | None:
        """The target where the model was resolved, or until then the one that its owner asked for, if any."""
        return self.findings.target or self.spec.target

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def variant(self) -> Variant | None:
        """The variant that serves the model; None until it is inspected and locked."""
        return (
            self.accelerated if self.findings.acceleration.status is AccelerationStatus.ACCELERATED else self.original
        )

    @property
    def original(self) -> Variant | None:
        if self.findings.inspection is None or self.findings.lock is None:
            return None
        return Variant(
            VariantName.ORIGINAL, self.findings.inspection.format, self.spec.artifact.file, self.findings.lock
        )

    @property
    def accelerated(self) -> Variant | None:
        lock = self.findings.acceleration.lock
        return (
            Variant(VariantName.ACCELERATED, Format.ACCELERATED, ACCELERATED_FILE, lock, code=False) if lock else None
        )

    @property
    def converter(self) -> Variant | None:
        """The original variant with the packages that convert it; None where none were found."""
        lock = self.findings.acceleration.converter_lock
        if self.findings.inspection is None or lock is None:
            return None
        return Variant(
            VariantName.CONVERTER,
            self.findings.inspection.format,
            self.spec.artifact.file,
            lock,
            log_folder="converter",
        )

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every variant that may have left something on its target, the original last."""
        return tuple(variant for variant in (self.converter, self.accelerated, self.original) if variant)


class Replica(Struct, frozen=True):
    """One running runtime, with all that is needed to reach it, ask after it and stop it.

    target: name of the target that runs it. image: name of its container's image, "" for a process.
    id: the container id, or "<pid>:<start time>" of the process (a pid alone may be reused).
    address: where it accepts connections. token: what it wants in HELLO; never shown by the API. variant: what it has loaded.
    number: from 1, its place among the replicas of its model; the one that replaces it has the same, and its log.
    """

    model_id: str
    target: str
    id: str
    token: str
    started_at: str
    address: Address = Address()
    image: str = ""
    pid: int = 0
    variant: VariantName = field(default=VariantName.ORIGINAL, name="form")
    number: int = 1


class Restart(Struct, frozen=True):
    """The replacement of a replica. lines: the last of its log."""

    at: str
    reason: str
    lines: tuple[str, ...] = ()


class Deployment(Struct, frozen=True):
    """Wanted and real state of one model on this host, as kept in the registry.

    replicas: those that run, in the order of their numbers. `Spec.replicas` says how many there should be.
    traffic: AUTO until it becomes live. side_effects: as in `Spec`. passed_over: whether it never had the requests for its
    name, or was rolled back since: it is not the version before another one, to which a rollback goes back.
    """

    model_id: str
    name: str
    version: str
    status: Status
    wanted: bool
    target: str | None = None
    replicas: tuple[Replica, ...] = ()
    created_at: str = ""
    updated_at: str = ""
    live_at: str = ""
    error: dict[str, Any] | None = None
    restarts: tuple[Restart, ...] = ()
    metadata: dict[str, Any] = {}
    bounds: QueueLimits = QueueLimits()
    traffic: TrafficChoice = TrafficChoice.ALL
    side_effects: bool = False
    passed_over: bool = False

    @property
    def callable_ref(self) -> str:
        """The reference by which callers reach it: its name, or `name@version` while it runs beside another version."""
        return f"{self.name}@{self.version}" if self.traffic is TrafficChoice.NONE else self.name
