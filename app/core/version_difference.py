"""The differences of two versions of a model, as their records tell them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from app.core.inspection import Format, Inspection
from app.core.model import ModelVersion
from app.core.signature import Tensor

FRAMEWORKS_OF_FORMATS = {
    Format.ONNX: "onnx",
    Format.TORCHSCRIPT: "torch",
    Format.TORCH_EXPORT: "torch",
    Format.TORCH: "torch",
    Format.XGBOOST: "xgboost",
    Format.LIGHTGBM: "lightgbm",
    Format.CATBOOST: "catboost",
    Format.SKOPS: "sklearn",
    Format.PYTHON: "python",
    Format.MLFLOW: "mlflow",
}
FRAMEWORKS_OF_PACKAGES = {
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "torch": "torch",
    "statsmodels": "statsmodels",
    "scikit-learn": "sklearn",
}
"""The frameworks of pickles by what they need, in this order: a booster in a pipeline of scikit-learn is a booster."""

OTHER_FRAMEWORK = "other"
FRAMEWORKS = tuple(dict.fromkeys((*FRAMEWORKS_OF_FORMATS.values(), *FRAMEWORKS_OF_PACKAGES.values(), OTHER_FRAMEWORK)))


class Change(Struct, frozen=True):
    """A fact before and after. None: one version does not have it."""

    name: str
    before: Any
    after: Any


class Difference(Struct, frozen=True):
    """What differs between two versions of one name. before, after: their numbers.

    same_artifact: whether their files are the same byte for byte. breaks: why requests that `before` answers would be
    refused by `after`, one sentence each. packages: by name, with their exact versions. speedup: how many times as fast
    the accelerated variant was measured to be, by rows of a call, where it is known.
    """

    name: str
    before: str
    after: str
    same_artifact: bool
    size_bytes: Change
    python: Change
    inputs: tuple[Change, ...]
    outputs: tuple[Change, ...]
    breaks: tuple[str, ...]
    packages: tuple[Change, ...]
    metrics: tuple[Change, ...]
    speedup: tuple[Change, ...]


def framework_of(inspection: Inspection | None) -> str:
    """Return the library that a model was made with, as its file tells; OTHER_FRAMEWORK if it does not."""
    if inspection is None:
        return OTHER_FRAMEWORK
    needed = {pin.distribution for pin in inspection.pins}
    of_packages = (name for package, name in FRAMEWORKS_OF_PACKAGES.items() if package in needed)
    return FRAMEWORKS_OF_FORMATS.get(inspection.format) or next(of_packages, OTHER_FRAMEWORK)


def metrics_of(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a version's metadata: those of its object `metrics`, and those at its top."""
    given = metadata.get("metrics")
    numbers = {**metadata, **(given if isinstance(given, dict) else {})}
    return {name: value for name, value in numbers.items() if type(value) in (int, float)}


def difference(before: ModelVersion, after: ModelVersion) -> Difference:
    """Compare two versions of one name."""
    first, second = before.findings, after.findings
    return Difference(
        name=after.name,
        before=before.version,
        after=after.version,
        same_artifact=before.spec.artifact.sha256 == after.spec.artifact.sha256,
        size_bytes=Change("size_bytes", before.spec.artifact.size_bytes, after.spec.artifact.size_bytes),
        python=Change("python", first.lock and first.lock.python, second.lock and second.lock.python),
        inputs=_tensor_changes(_inputs(before), _inputs(after)),
        outputs=_tensor_changes(
            first.signature.outputs if first.signature else (), second.signature.outputs if second.signature else ()
        ),
        breaks=tuple(_breaks(before, after)),
        packages=_changes(_packages(before), _packages(after)),
        metrics=_changes(metrics_of(before.spec.metadata), metrics_of(after.spec.metadata)),
        speedup=_changes(_speedup(before), _speedup(after)),
    )


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    names = sorted({*before, *after})
    return tuple(
        Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def _inputs(model: ModelVersion) -> tuple[Tensor, ...]:
    return model.findings.signature.inputs if model.findings.signature else ()


def _tensor_changes(before: Iterable[Tensor], after: Iterable[Tensor]) -> tuple[Change, ...]:
    return _changes({tensor.name: _told(tensor) for tensor in before}, {tensor.name: _told(tensor) for tensor in after})


def _told(tensor: Tensor) -> str:
    shape = " × ".join("n" if length < 0 else str(length) for length in tensor.shape)
    return f"{tensor.datatype}, {shape}" + (", optional" if tensor.optional else "")


def _breaks(before: ModelVersion, after: ModelVersion) -> Iterable[str]:
    """Yield why requests for one version are no requests for the other."""
    if before.findings.signature is None or after.findings.signature is None:
        return
    known = {tensor.name: tensor for tensor in _inputs(before)}
    for tensor in _inputs(after):
        earlier = known.get(tensor.name)
        if earlier is None:
            if not tensor.optional:
                yield f"The input `{tensor.name}` is new, and requests must have it."
        elif earlier.datatype != tensor.datatype:
            yield f"The input `{tensor.name}` was {earlier.datatype} and is {tensor.datatype}."
        elif earlier.shape[1:] != tensor.shape[1:]:
            yield f"The input `{tensor.name}` had the shape {list(earlier.shape)} and has {list(tensor.shape)}."
        elif earlier.optional and not tensor.optional:
            yield f"The input `{tensor.name}` could be left out, and must be there now."


def _packages(model: ModelVersion) -> dict[str, str]:
    lock = model.findings.lock
    lines = (line.partition("==") for line in lock.packages) if lock else ()
    return {name: version for name, _, version in lines}


def _speedup(model: ModelVersion) -> dict[str, float]:
    report = model.findings.acceleration.report
    return report.speedup if report else {}
