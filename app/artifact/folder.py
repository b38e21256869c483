"""Reads a model's folder. Its files decide what it is: an MLflow model, a Python model, or one model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from app.artifact.formats.mlflow import read_mlflow
from app.artifact.formats.yaml import read_text, read_yaml
from app.artifact.python_source import MODEL_FILE, answering_class
from app.core.contents import MLMODEL, Contents
from app.core.inspection import Format
from app.core.model_config import FILE_NAME, ModelConfig, model_config
from app.errors import BadInput, UnsupportedFormat

MODEL_SUFFIXES: Final = (
    *(".pkl", ".pickle", ".joblib", ".skops", ".ubj", ".cbm"),
    *(".onnx", ".pt", ".pth", ".pt2", ".torchscript"),
)
REQUIREMENTS: Final = "requirements.txt"
SAMPLE: Final = "sample_input.json"
PYTHON_VERSION: Final = ".python-version"
SHOWN_FILES: Final = 12
EXPECTED: Final = (
    f"A folder holds one of: `{MLMODEL}` (an MLflow model), `{MODEL_FILE}` with a class that has `load` and `predict`, "
    f"or exactly one model file ({', '.join(MODEL_SUFFIXES)}). Beside it may be {REQUIREMENTS}, {FILE_NAME}, "
    f"{SAMPLE}, {PYTHON_VERSION} and .py files."
)


def read_contents(folder: Path) -> Contents:
    """Read a folder. Raises UnsupportedFormat if it is no model, BadInput for a file in it that cannot be read."""
    config = read_config(folder)
    python_version = config.python_version or _python_version(folder)
    sample = config.sample if config.sample is not None else _sample(folder)
    if (folder / MLMODEL).is_file():
        return _mlflow(folder, config, python_version, sample)
    requirements = read_text(folder / REQUIREMENTS) if (folder / REQUIREMENTS).is_file() else ""
    contents = Contents(
        config=config,
        requirements=requirements,
        requirements_from=REQUIREMENTS if requirements else "",
        python_version=python_version,
        sample=sample,
    )
    files = model_files(folder)
    if _is_python_mode(folder, config, files, python_version):
        return msgspec.structs.replace(contents, format=Format.PYTHON)
    return msgspec.structs.replace(contents, file=_model_file(folder, config, files))


def read_config(folder: Path) -> ModelConfig:
    """Read model_config.yaml, if there is one. Raises BadInput for a mistake in it or in its name."""
    for name in ("model_config.yml", "model-config.yaml", "config.yaml"):
        if (folder / name).is_file() and not (folder / FILE_NAME).exists():
            raise BadInput(
                f"The folder has {name}; the file must be named {FILE_NAME}.", hint="Rename it.", field="file"
            )
    path = folder / FILE_NAME
    return model_config(read_yaml(path, texts=("python_version",))) if path.is_file() else ModelConfig()


def model_files(folder: Path) -> list[str]:
    """Return the model files of the folder itself, not of those below it, which are its data."""
    return sorted(
        path.name for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(MODEL_SUFFIXES)
    )


def _is_python_mode(folder: Path, config: ModelConfig, files: list[str], python_version: str) -> bool:
    """Return whether model.py is the model. Beside a model file its class must have a `load` that reads that file.

    Raises UnsupportedFormat where the owner says `python` and the folder has no such class.
    """
    path = folder / MODEL_FILE
    if config.framework == "python" and not path.is_file():
        raise _no_model(folder, f"{FILE_NAME} says `framework: python`, but there is no {MODEL_FILE}.")
    if not path.is_file() or (config.framework not in ("", "python")) or config.file not in ("", MODEL_FILE):
        return False
    answering = answering_class(path, python_version)
    if answering is not None:
        return answering.loads or not files or config.framework == "python"
    if config.framework == "python" or not files:
        return _may_answer(folder, path)
    return False


def _may_answer(folder: Path, path: Path) -> bool:
    """Check that model.py has a class, which may inherit `predict`. Returns True. Raises UnsupportedFormat."""
    if "class " not in read_text(path):
        raise _no_model(folder, f"{MODEL_FILE} has no class with `load` and `predict`.")
    return True


def _model_file(folder: Path, config: ModelConfig, files: list[str]) -> str:
    if config.file:
        path = folder / config.file
        if ".." in Path(config.file).parts or Path(config.file).is_absolute() or not path.is_file():
            raise _no_model(folder, f"{FILE_NAME} names `file: {config.file[:100]}`, which is not in the folder.")
        return config.file
    if len(files) == 1:
        return files[0]
    if files:
        raise BadInput(
            f"The folder holds {len(files)} model files: {', '.join(files[:SHOWN_FILES])}.",
            hint=f"Name the model with `file: {files[0]}` in {FILE_NAME}, or give each a folder of its own.",
            found=files[:SHOWN_FILES],
            field="file",
        )
    raise _no_model(folder, "The folder holds no model.")


def _mlflow(folder: Path, config: ModelConfig, python_version: str, sample: Any) -> Contents:
    reading = read_mlflow(folder)
    return Contents(
        config=config,
        file=reading.file,
        format=None if reading.file else Format.MLFLOW,
        requirements=reading.requirements,
        requirements_from=reading.requirements_from,
        python_version=python_version or reading.python_version,
        sample=reading.sample if sample is None else sample,
        mlflow=reading,
    )


def _python_version(folder: Path) -> str:
    """Return the version in the first line of .python-version, as pyenv and uv write it; "" for none."""
    path = folder / PYTHON_VERSION
    lines = read_text(path).split() if path.is_file() else []
    return lines[0].removeprefix("cpython-").removeprefix("python-") if lines else ""


def _sample(folder: Path) -> Any:
    path = folder / SAMPLE
    return read_json(path) if path.is_file() else None


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises BadInput naming the file."""
    try:
        return msgspec.json.decode(read_text(path))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput(f"{path.name} is not JSON: {error}.", hint="Correct that file.", field="file") from error


def _no_model(folder: Path, what: str) -> UnsupportedFormat:
    entries = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    listed = ", ".join(entries[:SHOWN_FILES]) + (
        f" and {len(entries) - SHOWN_FILES} more" if len(entries) > SHOWN_FILES else ""
    )
    return UnsupportedFormat(f"{what} It holds {listed or 'nothing'}.", hint=EXPECTED, found=entries[:SHOWN_FILES])
