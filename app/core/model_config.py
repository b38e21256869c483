"""`model_config.yaml`: what the owner of a model says of how it is to be served, checked key by key.

Keys that a setting has too bear its name, and win over it for this one model.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from app.core.audio import AudioSpec
from app.core.execution import GPU_FORMS, Execution, Gpus, parse_gpus, unknown_provider
from app.core.image import ImageSpec
from app.core.model import REPLICAS_MAX, QueueLimits
from app.core.signature import Tensor
from app.errors import BadInput

FILE_NAME: Final = "model_config.yaml"
FRAMEWORKS: Final = (
    "sklearn",
    "xgboost",
    "lightgbm",
    "catboost",
    "statsmodels",
    "pickle",
    "joblib",
    "skops",
    "onnx",
    "torch",
    "mlflow",
    "python",
)
CHOICES: Final = ("auto", "off")
INPUT_KINDS: Final = ("image", "audio")
DATATYPES: Final = (
    "BOOL",
    *(f"{sign}INT{size}" for sign in ("U", "") for size in (8, 16, 32, 64)),
    *("FP16", "BF16", "FP32", "FP64", "BYTES", "DATETIME", "ANY"),
)
MEANT: Final = {
    "batch": "max_batch_size",
    "batch_size": "max_batch_size",
    "batching_window_ms": "batch_window_ms",
    "allow_package": "allow_packages",
    "can_batch": "batchable",
    "cuda": "gpu",
    "dependencies": "requirements",
    "device": "gpu",
    "devices": "gpu",
    "example": "sample",
    "expected_input": "sample",
    "expected_input_json": "sample",
    "gpus": "gpu",
    "instances": "replicas",
    "model": "file",
    "model_file": "file",
    "model_type": "framework",
    "packages": "requirements",
    "path": "file",
    "pip": "requirements",
    "provider": "execution_providers",
    "providers": "execution_providers",
    "python": "python_version",
    "queue": "queue_length",
    "queue_size": "queue_length",
    "num_threads": "threads",
    "signature": "inputs",
    "timeout": "predict_timeout_seconds",
    "timeout_seconds": "predict_timeout_seconds",
    "type": "framework",
    "warm_up": "sample",
    "warmup": "sample",
    "warmup_sample": "sample",
    "window": "batch_window_ms",
    "window_ms": "batch_window_ms",
}
"""Keys of other programs that mean one of ours and are not spelt like it."""

METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class TensorSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output, as in a signature. shape: −1 is any size; the first is the rows."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    datatype: str = "ANY"
    shape: tuple[Annotated[int, Meta(ge=-1)], ...] = (-1,)

    def tensor(self) -> Tensor:
        return Tensor(self.name, self.datatype, self.shape)


class ModelConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that model_config.yaml can say; None and "" leave it to the artifact and the settings.

    framework: what the model file should be; checked against what it is. file: the model's, where the folder has several.
    method: of the object in a pickle that answers, such as predict_proba. batchable: whether rows of several requests
    may go through one call. sample: a request known to be answered, for the probe before traffic. input: how images
    or sounds become the model's input. gpu: true, how many, or which.
    """

    framework: str = ""
    file: str = ""
    description: str = ""
    method: str = ""
    batchable: bool | None = None
    max_batch_size: Annotated[int, Meta(ge=1, le=65535)] | None = None
    batch_window_ms: Annotated[float, Meta(ge=0)] | None = None
    queue_length: Annotated[int, Meta(ge=1)] | None = None
    predict_timeout_seconds: Annotated[float, Meta(gt=0)] | None = None
    replicas: Annotated[int, Meta(ge=1, le=REPLICAS_MAX)] = 1
    sample: Any = None
    input: ImageSpec | AudioSpec | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    requirements: str | tuple[str, ...] = ()
    python_version: str = ""
    target: str = ""
    accelerate: str = ""
    allow_unsafe: bool = False
    allow_packages: str | tuple[str, ...] = ()
    gpu: bool | int | tuple[str | int, ...] = False
    execution_providers: tuple[str, ...] = ()
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None

    @property
    def execution(self) -> Execution:
        return Execution(parse_gpus(self.gpu) or Gpus(), self.execution_providers, self.threads)

    @property
    def bounds(self) -> QueueLimits:
        return QueueLimits(self.max_batch_size, self.queue_length, self.batch_window_ms, self.predict_timeout_seconds)

    @property
    def requirement_lines(self) -> str:
        return self.requirements if isinstance(self.requirements, str) else "\n".join(self.requirements)

    @property
    def allowed(self) -> tuple[str, ...]:
        return (self.allow_packages,) if isinstance(self.allow_packages, str) else self.allow_packages


KEYS: Final = tuple(field.name for field in msgspec.structs.fields(ModelConfig))


def model_config(document: Any) -> ModelConfig:
    """Check and convert a document, as read from YAML; None is an empty one. Raises BadInput naming key and value."""
    if document is None:
        return ModelConfig()
    if not isinstance(document, dict):
        raise _wrong(f"holds {_shown(document)}, not keys and values", "Write one `key: value` per line.")
    _check_keys(document)
    given = {
        **document,
        **{key: _ports(key, document[key]) for key in ("inputs", "outputs") if document.get(key) is not None},
        "input": _of_a_kind(document.get("input")),
    }
    given = {key: value for key, value in given.items() if value is not None}
    try:
        config = msgspec.convert(given, ModelConfig)
    except msgspec.ValidationError as error:
        raise _mistyped(given, str(error)) from error
    return checked(config)


def _check_keys(document: dict[Any, Any]) -> None:
    for key in document:
        if key in KEYS:
            continue
        text = str(key)
        near = MEANT.get(text.lower()) or next(iter(difflib.get_close_matches(text.lower(), KEYS, 1, 0.6)), None)
        if text == "name":
            hint = "A model is named by its folder, or by the name that is given with an upload."
        else:
            hint = f"Did you mean `{near}`?" if near else f"Keys are: {', '.join(KEYS)}."
        raise _wrong(f"has the unknown key `{text[:100]}`", hint, text[:100])


def _of_a_kind(given: Any) -> Any:
    """Return an `input` with its kind, by default an image. Raises BadInput for any other kind."""
    if not isinstance(given, dict):
        return given
    kind = given.get("kind", INPUT_KINDS[0])
    if kind not in INPUT_KINDS:
        raise _wrong(f"has `input.kind: {_shown(kind)}`", f"It is {' or '.join(INPUT_KINDS)}.", "input")
    return {**given, "kind": kind}


def _ports(key: str, given: Any) -> Any:
    """Convert `{age: FP64, city: BYTES}`, the short form of columns, to a list. Raises BadInput for a name twice."""
    if isinstance(given, dict):
        given = [{"name": str(name), "datatype": datatype} for name, datatype in given.items()]
    names = [port.get("name") for port in given if isinstance(port, dict)] if isinstance(given, list) else []
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise _wrong(f"names `{twice[0]}` twice in `{key}`", "Give each its own name.", key)
    return given


def checked(config: ModelConfig) -> ModelConfig:
    """Check the values of a config and return it as it is. Raises BadInput naming key and value."""
    for key, value, known in (("framework", config.framework, FRAMEWORKS), ("accelerate", config.accelerate, CHOICES)):
        if value and value not in known:
            near = difflib.get_close_matches(value.lower(), known, 1, 0.5)
            hint = f"Did you mean `{near[0]}`?" if near else f"It is one of {', '.join(known)}."
            raise _wrong(f"has the unknown `{key}: {value[:100]}`", hint, key)
    if parse_gpus(config.gpu) is None:
        raise _wrong(f"has `gpu: {_shown(config.gpu)}`", GPU_FORMS, "gpu")
    if unknown := unknown_provider(config.execution_providers):
        raise _wrong(f"names the unknown execution provider {unknown[0][:100]}", unknown[1], "execution_providers")
    if config.method and not METHOD.fullmatch(config.method):
        hint = "Name a method of the model, such as predict_proba."
        raise _wrong(f"has `method: {config.method[:100]}`, which is not a valid name", hint, "method")
    if config.input is not None and (fault := config.input.fault):
        key, wrong, hint = fault
        raise _wrong(f"has `input.{key}: {_shown(wrong)}`", hint, "input")
    for key, ports in (("inputs", config.inputs), ("outputs", config.outputs)):
        for port in ports:
            if port.datatype not in DATATYPES:
                near = difflib.get_close_matches(port.datatype.upper(), DATATYPES, 1, 0.5)
                hint = f"Did you mean {near[0]}? " if near else ""
                hint += f"Datatypes are: {', '.join(DATATYPES)}."
                raise _wrong(f"gives `{port.name}` of `{key}` the unknown datatype {port.datatype[:50]}", hint, key)
    return config


_EXPECTED: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "keys and values",
}


def _mistyped(given: Any, message: str) -> BadInput:
    """Make the error of msgspec's words, `Expected `int`, got `str` - at `$.key[0]``, and the value that is there."""
    reason, _, place = message.partition(" - at `$")
    steps = re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", place)
    value: Any = given
    for key, index in steps:
        value = value.get(key) if key and isinstance(value, dict) else value
        if index.isdigit() and isinstance(value, list):
            value = value[int(index)]
    key = "".join(f".{name}" if name else f"[{index}]" for name, index in steps).lstrip(".")
    if unknown := re.search(r"unknown field `(\w+)`", reason):
        is_audio = key == "input" and given["input"]["kind"] == "audio"
        spec = TensorSpec if key != "input" else AudioSpec if is_audio else ImageSpec
        fields = [field.name for field in msgspec.structs.fields(spec)]
        near = difflib.get_close_matches(unknown[1], fields, 1)
        hint = f"Did you mean `{near[0]}`?" if near else f"It has {', '.join(fields)}."
        if key == "input" and not near:
            hint = (
                f"An `input` of the kind {given['input']['kind']} has {', '.join(fields)}. Columns belong in `inputs`."
            )
        return _wrong(f"has the unknown key `{unknown[1]}` in `{key}`", hint, key.split("[")[0])
    kinds = re.sub(r"^Expected | \| null|, got .*$|`", "", reason).split(" | ")
    wanted = " or ".join(re.sub(r"\w+", lambda word: _EXPECTED.get(word[0], word[0]), kind, count=1) for kind in kinds)
    return _wrong(f"has `{key}: {_shown(value)}`, which is not {wanted}", "", re.split(r"[.\[]", key)[0])


def _shown(value: Any) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _wrong(what: str, hint: str, key: str = "") -> BadInput:
    return BadInput(f"{FILE_NAME} {what}.", hint=hint, **({"key": key} if key else {}))
