"""Review of an upload before anything is built: what was found in the file, and the form that deploys it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from app.artifact.consent import packages_to_allow, with_consent, word_of
from app.core.inspection import MISSING_VALUES, Format, Inspection, UnsafeGlobal
from app.core.model import REPLICAS_MAX
from app.errors import PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.intake.register import model_name
from app.lifecycle.intake.staging import Staged, Staging
from app.lifecycle.replacement import Replacement, replacement
from app.runtime.target import Target
from app.ui.pages import as_json

FORMATS = {
    Format.PICKLE: "Pickle",
    Format.JOBLIB: "Joblib",
    Format.SKOPS: "Skops",
    Format.XGBOOST: "XGBoost",
    Format.LIGHTGBM: "LightGBM",
    Format.CATBOOST: "CatBoost",
    Format.TORCHSCRIPT: "TorchScript",
    Format.TORCH_EXPORT: "PyTorch export",
    Format.TORCH: "PyTorch",
    Format.PYTHON: "Python",
    Format.MLFLOW: "MLflow",
    Format.ONNX: "ONNX",
}
OWN_FIELDS = ("allow_unsafe", "allow_packages", "code_files")
"""Fields whose refusals the page words itself until somebody tries to deploy: they follow from the file's contents."""


class Review(Struct, frozen=True):
    """Contents of the review page. values: by form field. wrong: problems by the field that caused them. trouble:
    problems that belong to no field.

    inspection: includes the uploaded code files. dangers: those that no package explains. packages: packages that may
    be allowed, with what needs each of them. allowed: the packages that are allowed. other_packages: further packages
    that the user entered. replacement: what it would replace; None for an invalid name. targets: the label of each
    that this machine offers, by name; the first is the one that "auto" selects. offers_gpus: whether one of them does.
    """

    staged: Staged
    inspection: Inspection
    dangers: Sequence[UnsafeGlobal]
    packages: dict[str, str]
    allowed: Sequence[str]
    other_packages: str
    format: str
    values: dict[str, str]
    wrong: dict[str, dict[str, Any]]
    trouble: Sequence[dict[str, Any]]
    warnings: Sequence[str]
    replacement: Replacement | None
    example: str
    targets: dict[str, str]
    offers_gpus: bool
    accelerates: bool
    most_replicas: int
    is_pickle: bool


async def review(
    staged: Staged, staging: Staging, deployments: Deployments, error: PrismError | None, values: dict[str, str]
) -> Review:
    """Gather the contents of the review page. error: why the deployment was refused, if it was tried."""
    inspection = with_consent(staged.inspected.with_code, word_of((), "", staged.inspected.code_files))
    packages = packages_to_allow(inspection)
    allowed = re.split(r"[\s,]+", values.get("allow_packages", ""))
    refusals = [refusal for refusal in await staging.refusals(staged) if refusal.values.get("field") not in OWN_FIELDS]
    errors = [error] if error is not None else refusals
    problems = [refusal.problem() for refusal in errors]
    targets = list(deployments.pipeline.targets.offered.values())
    name = suggested_name(values.get("model_name", ""), staged.upload.artifact.filename)
    return Review(
        staged=staged,
        inspection=inspection,
        dangers=[danger for danger in inspection.dangers if not danger.package],
        packages=packages,
        allowed=allowed,
        other_packages=", ".join(name for name in allowed if name and name not in packages),
        format=FORMATS.get(inspection.format, inspection.format.value),
        values={**values, "model_name": values.get("model_name") or name},
        wrong={problem["field"]: problem for problem in problems if problem.get("field")},
        trouble=[problem for problem in problems if not problem.get("field")],
        warnings=list(warnings(inspection)),
        replacement=foreseen(deployments, staged, values),
        example=example_of(inspection),
        targets={target.name: target_label(target) for target in targets},
        offers_gpus=any(target.offers_gpus for target in targets),
        accelerates=deployments.pipeline.settings.accelerate == "auto",
        most_replicas=REPLICAS_MAX,
        is_pickle=inspection.format is not Format.ONNX,
    )


def target_label(target: Target) -> str:
    """Return what a person chooses a target by, such as "Docker container" or "Process"."""
    name = target.name.capitalize()
    return name if target.name == target.replica_noun else f"{name} {target.replica_noun}"


def suggested_name(given: str, filename: str) -> str:
    try:
        return model_name(given, filename)
    except PrismError:
        return given


def warnings(inspection: Inspection) -> Iterator[str]:
    """Yield what may go wrong although nothing forbids the deployment."""
    for fact, names in inspection.facts.items():
        if fact.startswith(MISSING_VALUES):
            yield f"{names}."
    loose = [pin.distribution for pin in inspection.pins if not pin.specifier]
    if loose and inspection.format is not Format.ONNX:
        names = ", ".join(f"`{name}`" for name in loose)
        yield f"The file does not say which version of {names} it was saved with; PRISM chooses one that fits the other packages."


def foreseen(deployments: Deployments, staged: Staged, values: dict[str, str]) -> Replacement | None:
    """Return what the deployment replaces under the name and with the choice that the form has; None for invalid ones."""
    try:
        given = values.get("model_name", "")
        return replacement(deployments, given, staged.upload.artifact.filename, values.get("keep", ""))
    except PrismError:
        return None


def example_of(inspection: Inspection) -> str:
    """Return an example request body with the columns that the file names.

    If it names none, the body has made-up features.
    """
    names = inspection.facts.get("feature_names") or inspection.facts.get("inputs") or ""
    columns = [name for name in names.split(", ") if name]
    if not columns:
        return '{"features": [[5.1, 3.5, 1.4, 0.2]]}'
    return as_json(dict.fromkeys(columns[:20], 0), indent=0)
