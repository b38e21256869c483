"""Reads an MLflow model folder without MLflow: which of its flavors PRISM loads, and what that needs.

A flavor that names one file of a format that PRISM knows is loaded from that file, without MLflow. Everything else
has a `python_function`, which MLflow alone can load. Source: mlflow/models/model.py and mlflow/<flavor>/__init__.py of
MLflow 1.30 to 3.17.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from app.artifact.formats.yaml import read_text, read_yaml
from app.core.contents import MLMODEL, MlflowReading
from app.core.model_config import TensorSpec
from app.errors import BadInput

MLFLOW: Final = frozenset({"mlflow", "mlflow-skinny", "mlflow-tracing"})
INSTALLERS: Final = frozenset({"pip", "setuptools", "wheel"})
SAMPLE_ROWS_MAX: Final = 1

FILES_OF_FLAVORS: Final = (
    # flavor, its key that names the file or its folder, files within such a folder
    ("onnx", "data", ()),
    ("sklearn", "pickled_model", ()),
    ("lightgbm", "data", ()),
    ("statsmodels", "data", ()),
    ("pytorch", "model_data", ("model.pth", "model.pt2")),
)
OWN_FORMATS: Final = (".lgb", ".txt")
"""Suffixes of formats of a flavor's own library, such as a LightGBM booster, which only MLflow's adapter loads."""

DATATYPES: Final = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "datetime": "DATETIME",
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "str": "BYTES",
    **{f"{sign}int{size}": f"{sign.upper()}INT{size}" for sign in ("", "u") for size in (8, 16, 32, 64)},
}


def read_mlflow(folder: Path) -> MlflowReading:
    """Read an MLflow folder. Raises BadInput for an MLmodel file that is none."""
    document = read_yaml(folder / MLMODEL, texts=("mlflow_version",))
    flavors = document.get("flavors") if isinstance(document, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(flavor, dict) for flavor in flavors.values()):
        raise _wrong("names no flavors")
    flavor, file = _file(folder, flavors)
    function = flavors.get("python_function", {})
    if not file and "loader_module" not in function:
        raise _wrong(f"has the flavors {', '.join(map(str, flavors))}, none of which PRISM can load")
    text, source = _requirements(folder)
    kept, left_out = _for_loading(text, needs_mlflow=not file, version=str(document.get("mlflow_version") or ""))
    method = function.get("predict_fn")
    signature = document.get("signature")
    return MlflowReading(
        file=file,
        flavor=flavor,
        requirements=kept,
        requirements_from=source,
        left_out=left_out,
        python_version=_python_version(folder, function),
        code=_code(folder, function, flavors.get(flavor, {})) if file else "",
        method=method if isinstance(method, str) and method != "predict" and file else "",
        inputs=_ports(signature, "inputs"),
        outputs=_ports(signature, "outputs"),
        sample=_sample(folder, document.get("saved_input_example_info")),
        version=str(document.get("mlflow_version") or ""),
    )


def _file(folder: Path, flavors: dict[str, Any]) -> tuple[str, str]:
    """Return the first flavor that PRISM loads and its file, or ("python_function", "")."""
    for name, key, within in FILES_OF_FLAVORS:
        given = flavors.get(name, {}).get(key)
        if not isinstance(given, str):
            continue
        for path in [f"{given}/{file}" for file in within] or [given]:
            if not _is_inside(folder, path):
                continue
            if not path.endswith(OWN_FORMATS):
                return name, path
    return "python_function", ""


def _is_inside(folder: Path, path: str) -> bool:
    return ".." not in Path(path).parts and not Path(path).is_absolute() and (folder / path).is_file()


def _code(folder: Path, *flavors: dict[str, Any]) -> str:
    for flavor in flavors:
        path = flavor.get("code")
        if isinstance(path, str) and path and ".." not in Path(path).parts and (folder / path).is_dir():
            return path
    return ""


def _requirements(folder: Path) -> tuple[str, str]:
    """Return the text and the name of the file that says what is to be installed; ("", "") for none."""
    if (folder / "requirements.txt").is_file():
        return read_text(folder / "requirements.txt"), "requirements.txt"
    if not (folder / "conda.yaml").is_file():
        return "", ""
    conda = read_yaml(folder / "conda.yaml")
    dependencies = conda.get("dependencies") if isinstance(conda, dict) else None
    for dependency in dependencies if isinstance(dependencies, list) else ():
        if isinstance(dependency, dict) and isinstance(dependency.get("pip"), list):
            return "\n".join(map(str, dependency["pip"])), "conda.yaml"
    return "", ""


def _for_loading(text: str, *, needs_mlflow: bool, version: str) -> tuple[str, tuple[str, ...]]:
    """Return the requirements as they are installed, and those that are not.

    MLflow itself serves nothing here: it is left out where its loader is not needed, else its skinny distribution is
    taken, which has the loader and none of the server. Options, such as `-c constraints.txt`, are left out too.
    """
    kept: list[str] = []
    left_out: list[str] = []
    for line in filter(None, (re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines())):
        name = _name(line)
        if line.startswith("-") or name in INSTALLERS or (name in MLFLOW and not needs_mlflow):
            left_out.append(line)
        elif name == "mlflow":
            kept.append(re.sub(r"^mlflow(\[[^\]]*\])?", "mlflow-skinny", line, flags=re.IGNORECASE))
        else:
            kept.append(line)
    if needs_mlflow:
        names = {_name(line) for line in kept}
        if "mlflow-skinny" not in names:
            kept.append(f"mlflow-skinny=={version}" if re.fullmatch(r"[0-9][\w.]*", version) else "mlflow-skinny")
        kept += [name for name in ("numpy", "pandas") if name not in names]  # its loader imports both
    return "\n".join(kept), tuple(left_out)


def _name(line: str) -> str:
    try:
        return str(canonicalize_name(Requirement(line).name))
    except InvalidRequirement:
        return ""


def _python_version(folder: Path, function: dict[str, Any]) -> str:
    path = folder / "python_env.yaml"
    env = read_yaml(path, texts=("python",)) if path.is_file() else None
    version = env.get("python") if isinstance(env, dict) else function.get("python_version")
    return str(version) if version and re.fullmatch(r"3\.[0-9]{1,3}(\.[0-9]{1,3})?", str(version)) else ""


def _ports(signature: Any, key: str) -> tuple[TensorSpec, ...]:
    """Return the ports of a schema, which is JSON in the YAML; none if a part is more than a tensor or plain column."""
    text = signature.get(key) if isinstance(signature, dict) else None
    try:
        schema = msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _wrong(f"has a signature that cannot be read: {error}") from error
    word = "input" if key == "inputs" else "prediction"
    nameless = [f"{word}s"] if isinstance(schema, list) and len(schema) == 1 else [f"{word}{n}" for n in range(1000)]
    ports = [_port(*pair) for pair in zip(schema, nameless, strict=False)] if isinstance(schema, list) else []
    tensors = [port for port in ports if port is not None]
    names = {port.name for port in tensors}
    return tuple(tensors) if len(tensors) == len(ports) == len(names) else ()


def _port(column: Any, nameless: str) -> TensorSpec | None:
    if not isinstance(column, dict) or column.get("required") is False or column.get("optional") is True:
        return None
    name = column.get("name")
    name = name if isinstance(name, str) and name else nameless
    if column.get("type") != "tensor":
        datatype = DATATYPES.get(str(column.get("type")))
        return TensorSpec(name, datatype) if datatype else None
    spec = column.get("tensor-spec")
    shape = spec.get("shape") if isinstance(spec, dict) else None
    datatype = DATATYPES.get(str(spec.get("dtype"))) if isinstance(spec, dict) else None
    if datatype is None or not isinstance(shape, list) or not all(type(size) is int and size >= -1 for size in shape):
        return None
    return TensorSpec(name, datatype, tuple(shape))


def _sample(folder: Path, info: Any) -> Any:
    """Return the input example as a request; None where there is none, or in a form that no dialect has."""
    if not isinstance(info, dict):
        return None
    for key in ("serving_input_path", "artifact_path"):
        path = info.get(key)
        if not isinstance(path, str) or not _is_inside(folder, path):
            continue
        try:
            value = msgspec.json.decode(read_text(folder / path))
        except (BadInput, msgspec.DecodeError, RecursionError):  # larger than a request should be, or not JSON
            return None
        if key == "artifact_path":
            value = {"dataframe_split": value} if info.get("type") == "dataframe" else {"inputs": value}
        return _first_row(value)
    return None


def _first_row(sample: Any) -> Any:
    """Cut a sample to its first SAMPLE_ROWS_MAX rows: one is enough to probe with."""
    frame = sample.get("dataframe_split") if isinstance(sample, dict) else None
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list):
        return sample
    kept = {key: frame[key] for key in ("columns", "data") if key in frame}
    return {"dataframe_split": {**kept, "data": frame["data"][:SAMPLE_ROWS_MAX]}}


def _wrong(what: str) -> BadInput:
    return BadInput(
        f"{MLMODEL} {what}.", hint="Save the model again with MLflow, and upload the whole folder.", field="file"
    )
