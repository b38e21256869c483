"""Reads an upload: an archive is unpacked and its folder looked into, a file is read as it is. Nothing of it runs.

Runs in a reader alone, the confined child of `reader.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import structs
from packaging.utils import canonicalize_name

from app.artifact.archives.unpack import is_archive, unpack
from app.artifact.code_files import needed_code
from app.artifact.consent import Word, with_consent
from app.artifact.folder import MODEL_SUFFIXES, read_contents
from app.artifact.inspection import inspect, is_model_archive
from app.artifact.python_source import MODEL_FILE, answering_class, own_modules, pins_of_imports
from app.artifact.requirements import with_requirements
from app.core.contents import FOLDER, Contents
from app.core.inspection import Format, Inspection, Pin, UnsafeGlobal
from app.core.model_config import FILE_NAME, ModelConfig
from app.core.reading import Reading
from app.errors import BadInput, UnreadableArtifact, UnsupportedFormat

PICKLED: Final = (Format.PICKLE, Format.JOBLIB, Format.SKOPS)
TORCH: Final = (Format.TORCH, Format.TORCHSCRIPT, Format.TORCH_EXPORT)
FRAMEWORKS: Final = {
    "pickle": PICKLED[:2],
    "joblib": PICKLED[:2],
    "skops": (Format.SKOPS,),
    "onnx": (Format.ONNX,),
    "torch": TORCH,
    "mlflow": (),
    "python": (Format.PYTHON,),
}
DISTRIBUTIONS: Final = {"sklearn": "scikit-learn"}


def read_artifact(path: Path, filename: str, staging: Path, max_upload_bytes: int) -> Reading:
    """Read an uploaded file or archive. filename: the name that its owner gave it. staging: an empty folder, into which
    an archive is unpacked.

    Raises UnsupportedFormat, UnreadableArtifact, TooLarge, or BadInput for a file that came with the model.
    """
    if not path.stat().st_size or not is_archive(path) or is_model_archive(path):
        return Reading(inspect(path, filename))
    top = staging / FOLDER
    unpack(path, top, max_upload_bytes)
    while len(inside := list(top.iterdir())) == 1 and inside[0].is_dir():  # a single folder is taken for what is meant
        top = inside[0]
    return structs.replace(read_folder(top), top=str(top.relative_to(staging)))


def read_folder(folder: Path, *, of_models_folder: bool = False) -> Reading:
    """Read a model's folder. of_models_folder: whether it is in the models folder, where model_config.yaml is its
    owner's word.


    Raises as `read_artifact` does.
    """
    contents = read_contents(folder)
    inspection = _inspection(folder, contents)
    if contents.config.requirement_lines and not of_models_folder:  # as much the artifact's as requirements.txt
        pins = with_requirements(inspection.pins, contents.config.requirement_lines, FILE_NAME)
        inspection = structs.replace(inspection, pins=pins)
    inspection = with_consent(_without_required(inspection), Word())
    _check_framework(contents.config, inspection, contents)
    has_own_code = not contents.file or (contents.mlflow is not None and contents.mlflow.code)
    code = () if has_own_code else needed_code(folder, inspection, contents.python_version)
    return Reading(inspection, contents, code=code)


def _without_required(inspection: Inspection) -> Inspection:
    """Leave out unknown modules that requirements beside the model name. These are judged in their place."""
    named = {canonicalize_name(pin.distribution) for pin in inspection.pins}
    unknown = tuple(module for module in inspection.unknown_modules if canonicalize_name(module) not in named)
    return structs.replace(inspection, unknown_modules=unknown)


def _inspection(folder: Path, contents: Contents) -> Inspection:
    if contents.format is Format.PYTHON:
        return _of_python(folder, contents)
    if contents.format is Format.MLFLOW:
        return _of_mlflow(folder, contents)
    path = folder / contents.file
    beside = frozenset(str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file())
    inspection = inspect(path, path.name, beside - {path.name})
    pins = with_requirements(inspection.pins, contents.requirements, contents.requirements_from)
    return structs.replace(inspection, pins=pins, facts={**inspection.facts, **_facts(contents)})


def _of_python(folder: Path, contents: Contents) -> Inspection:
    answering = answering_class(folder / MODEL_FILE, contents.python_version)
    facts = {
        "class": answering.name if answering else "found when it is loaded",
        "code": f"{MODEL_FILE} runs because its owner means it to, in the sandbox",
        **_facts(contents),
    }
    if contents.requirements_from:
        pins = with_requirements((), contents.requirements, contents.requirements_from)
        return Inspection(format=Format.PYTHON, pins=pins, facts=facts)
    pins, unknown = pins_of_imports(folder, contents.python_version)
    return Inspection(format=Format.PYTHON, pins=pins, unknown_modules=unknown, facts=facts)


def _of_mlflow(folder: Path, contents: Contents) -> Inspection:
    """Inspect a folder that MLflow loads. Every pickle in it counts, as MLflow may load any of them."""
    readings = list(_readable(folder))
    dangers: dict[str, UnsafeGlobal] = {danger.name: danger for reading in readings for danger in reading.dangers}
    pins: dict[str, Pin] = {pin.distribution: pin for reading in readings for pin in reading.pins}
    source = contents.requirements_from or "MLmodel"
    unknown = (
        {module for reading in readings for module in reading.unknown_modules}
        if not contents.requirements_from
        else set()
    )
    return Inspection(
        format=Format.MLFLOW,
        globals=tuple(sorted({name for reading in readings for name in reading.globals})),
        pins=with_requirements(
            () if contents.requirements_from else tuple(pins.values()), contents.requirements, source
        ),
        unknown_modules=tuple(sorted(unknown - own_modules(folder) - own_modules(folder / "code"))),
        python=next((reading.python for reading in readings if reading.python), None),
        dangers=tuple(dangers.values()),
        second_opinion=tuple(line for reading in readings for line in reading.second_opinion),
        facts=_facts(contents),
    )


def _readable(folder: Path) -> Iterator[Inspection]:
    """Yield the inspections of all files that are models by their content.

    Raises UnreadableArtifact for a file that is a model by its name and cannot be read.
    """
    for path in sorted(entry for entry in folder.rglob("*") if entry.is_file() and entry.stat().st_size):
        try:
            yield inspect(path, path.name)
        except UnsupportedFormat:
            continue
        except UnreadableArtifact:
            if path.name.lower().endswith(MODEL_SUFFIXES):
                raise


def _facts(contents: Contents) -> dict[str, str]:
    facts = {"file": contents.file} if contents.file else {}
    if contents.mlflow is not None:
        facts["mlflow"] = (
            f"{contents.mlflow.flavor}, saved by MLflow {contents.mlflow.version or 'of an unknown version'}"
        )
        if contents.mlflow.left_out:
            facts["not_installed"] = ", ".join(contents.mlflow.left_out)[:500]
    if contents.config != ModelConfig():
        facts["config"] = FILE_NAME
    return facts


def _check_framework(config: ModelConfig, inspection: Inspection, contents: Contents) -> None:
    """Check that the model is of the framework that its owner names. Raises BadInput."""
    what, wanted = inspection.format.value, config.framework
    if wanted == "mlflow":
        fits = contents.mlflow is not None
    elif wanted in FRAMEWORKS:
        fits = inspection.format in FRAMEWORKS[wanted]
    else:
        distribution = DISTRIBUTIONS.get(wanted, wanted)
        fits = not wanted or any(pin.distribution == distribution for pin in inspection.pins)
        what = f"{what} that names {', '.join(pin.distribution for pin in inspection.pins[:5]) or 'no library'}"
    name = contents.file or "the folder"
    if not fits:
        raise BadInput(
            f"{FILE_NAME} says `framework: {wanted}`, but {name} is a {what}.",
            hint="Correct it, or leave it out: PRISM reads what the file is.",
            key="framework",
            field="file",
        )
    if config.method and inspection.format not in PICKLED:
        raise BadInput(
            f"{FILE_NAME} says `method: {config.method}`, but {name} is a {inspection.format.value}, whose method "
            "cannot be chosen.",
            hint="Leave it out; if a classifier has probabilities, `?probabilities=true` returns them.",
            key="method",
            field="file",
        )
