"""Reads an upload: an archive is unpacked and its folder looked into, a file is read as it is. Nothing of it runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Final

from msgspec import structs
from packaging.utils import canonicalize_name

from app.core.inspection import Danger, Format, Inspection, Pin
from app.core.model_config import FILE_NAME, ModelConfig
from app.errors import BadInput, UnreadableArtifact, UnsupportedFormat
from app.lifecycle.companions import copy_code, move_code, needed_code
from app.lifecycle.consent import Word, with_consent
from app.lifecycle.contents import MODEL_SUFFIXES, Contents, read_contents
from app.lifecycle.environment import with_requirements
from app.lifecycle.inspection import inspect, is_model_archive
from app.lifecycle.python_source import MODEL_FILE, answering_class, own_modules, pins_of_imports
from app.lifecycle.receive import Upload
from app.lifecycle.unpack import is_archive, unpack

FOLDER: Final = "model"
"""Below the artifact's folder, what an archive held."""

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


async def read_upload(upload: Upload, max_upload_bytes: int) -> Upload:
    """The upload with what reading it told, which may take seconds.

    Raises UnsupportedFormat, UnreadableArtifact, TooLarge, or BadInput for a file that came with the model.
    """
    began = monotonic()
    read = await asyncio.to_thread(_read, upload, max_upload_bytes)
    return structs.replace(read, inspect_ms=(monotonic() - began) * 1000)


def _read(upload: Upload, max_upload_bytes: int) -> Upload:
    if upload.models_folder:
        return read_folder(upload)
    path = upload.artifact_path
    if path.stat().st_size and is_archive(path) and not is_model_archive(path):
        _unpack(path, upload.folder, max_upload_bytes)
        return read_folder(upload)
    return structs.replace(upload, inspection=inspect(path, upload.artifact.filename))


def _unpack(path: Path, folder: Path, max_upload_bytes: int) -> None:
    """In place of the archive, what it held; a single folder in it is taken for what is meant."""
    archive, unpacked = folder / "archive", folder / "unpacked"
    path.rename(archive)
    unpack(archive, unpacked, max_upload_bytes)
    archive.unlink()
    top = unpacked
    while len(inside := list(top.iterdir())) == 1 and inside[0].is_dir():
        top = inside[0]
    top.rename(folder / "artifact" / FOLDER)
    shutil.rmtree(unpacked, ignore_errors=True)


def read_folder(upload: Upload) -> Upload:
    """An upload whose files lie unpacked in `artifact/model/`."""
    folder = upload.folder / "artifact" / FOLDER
    contents = read_contents(folder)
    inspection = _inspection(folder, contents)
    if contents.config.requirement_lines and not upload.models_folder:  # as much the artifact's as requirements.txt
        pins = with_requirements(inspection.pins, contents.config.requirement_lines, FILE_NAME)
        inspection = structs.replace(inspection, pins=pins)
    inspection = with_consent(_without_required(inspection), Word())
    _check_framework(contents.config, inspection, contents)
    names = _code(upload.folder, folder, contents, inspection)
    artifact = structs.replace(upload.artifact, main=f"{FOLDER}/{contents.file}".rstrip("/"))
    return structs.replace(
        upload,
        artifact=artifact,
        code_files=tuple(dict.fromkeys((*upload.code_files, *names))),
        contents=contents,
        inspection=inspection,
    )


def _without_required(inspection: Inspection) -> Inspection:
    """Without the unknown modules that requirements beside the model name, which are judged in their place."""
    named = {canonicalize_name(pin.distribution) for pin in inspection.pins}
    unknown = tuple(module for module in inspection.unknown_modules if canonicalize_name(module) not in named)
    return structs.replace(inspection, unknown_modules=unknown)


def _inspection(folder: Path, contents: Contents) -> Inspection:
    if contents.format is Format.PYTHON:
        return _of_python(folder, contents)
    if contents.format is Format.MLFLOW:
        return _of_mlflow(folder, contents)
    path = folder / contents.file
    beside = frozenset(str(one.relative_to(path.parent)) for one in path.parent.rglob("*") if one.is_file())
    found = inspect(path, path.name, beside - {path.name})
    pins = with_requirements(found.pins, contents.requirements, contents.requirements_from)
    return structs.replace(found, pins=pins, facts={**found.facts, **_facts(contents)})


def _of_python(folder: Path, contents: Contents) -> Inspection:
    answering = answering_class(folder / MODEL_FILE, contents.python_version)
    facts = {
        "class": answering.name if answering else "found when it is loaded",
        "code": f"{MODEL_FILE} runs by its owner's intent, behind the walls",
        **_facts(contents),
    }
    if contents.requirements_from:
        pins = with_requirements((), contents.requirements, contents.requirements_from)
        return Inspection(format=Format.PYTHON, pins=pins, facts=facts)
    pins, unknown = pins_of_imports(folder, contents.python_version)
    return Inspection(format=Format.PYTHON, pins=pins, unknown_modules=unknown, facts=facts)


def _of_mlflow(folder: Path, contents: Contents) -> Inspection:
    """Every pickle in the folder counts, as MLflow may load any of them."""
    found = list(_readable(folder))
    dangers: dict[str, Danger] = {one.name: one for reading in found for one in reading.dangers}
    pins: dict[str, Pin] = {one.distribution: one for reading in found for one in reading.pins}
    source = contents.requirements_from or "MLmodel"
    unknown = (
        {module for reading in found for module in reading.unknown_modules} if not contents.requirements_from else set()
    )
    return Inspection(
        format=Format.MLFLOW,
        globals=tuple(sorted({name for reading in found for name in reading.globals})),
        pins=with_requirements(
            () if contents.requirements_from else tuple(pins.values()), contents.requirements, source
        ),
        unknown_modules=tuple(sorted(unknown - own_modules(folder) - own_modules(folder / "code"))),
        python=next((reading.python for reading in found if reading.python), None),
        dangers=tuple(dangers.values()),
        second_opinion=tuple(line for reading in found for line in reading.second_opinion),
        facts=_facts(contents),
    )


def _readable(folder: Path) -> Iterator[Inspection]:
    """Readings of all files that are models by their content. A pickle by its name must be one that can be read."""
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and one.stat().st_size):
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


def _code(root: Path, folder: Path, contents: Contents, inspection: Inspection) -> tuple[str, ...]:
    """What the model file needs of the .py files beside it, now in the folder of code; a folder keeps its own."""
    if not contents.file:
        return ()
    code = root / "code"
    if contents.mlflow is not None and contents.mlflow.code:
        return copy_code(folder / contents.mlflow.code, code)
    names = needed_code(folder, inspection, contents.python_version)
    if names:
        move_code(names, folder, code)
    return names


def _check_framework(config: ModelConfig, inspection: Inspection, contents: Contents) -> None:
    """Raises BadInput where the owner says one thing and the file is another."""
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
            f"{FILE_NAME} says `framework: {wanted}`, and {name} is a {what}.",
            hint="Correct it, or leave it out: PRISM reads what the file is.",
            key="framework",
            field="file",
        )
    if config.method and inspection.format not in PICKLED:
        raise BadInput(
            f"{FILE_NAME} says `method: {config.method}`, and {name} is a {inspection.format.value}, whose way to answer "
            "is given.",
            hint="Leave it out; where a classifier has probabilities, `?probabilities=true` asks for them.",
            key="method",
            field="file",
        )
