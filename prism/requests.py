"""Requests of the SDK as values: what to send, how long to wait, whether to repeat it, and how to read the answer.

The two clients differ only in how they send a `Call`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Any, Generic, Literal, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from prism import responses
from prism.errors import InvalidRequest
from prism.folder import code_parts, zipped
from prism.predict_body import JSON, predict_body
from prism.responses import (
    Answer,
    ApiKey,
    Difference,
    Health,
    Model,
    Prediction,
    Replacement,
    Revocation,
    Share,
    Version,
)
from prism.tables.answer import TableAnswer, table

CSV = "text/csv"
KEY_HEADER = "X-Prism-Key"

T = TypeVar("T")
File = str | os.PathLike[str] | IO[bytes]
"""A file: its path, or itself, opened for reading bytes."""
LogKind = Literal["runtime", "build"]
Bump = Literal["major", "minor", "patch"]
Traffic = Literal["auto", "all", "none"]
OnBytes = Callable[[int, int], None]
"""Function called with the number of bytes sent so far and the total number of bytes."""
OnStatus = Callable[[Model], None]
POLL_SECONDS = 0.2
FINER_THAN_DATETIME = ("M8[ns]", "M8[ps]", "M8[fs]", "M8[as]")
"""numpy's types of dates whose `tolist()` gives whole numbers."""


@dataclass(frozen=True)
class Timeouts:
    """Time limits for a connection, an ordinary answer, a prediction, and for a model to become live."""

    connect_seconds: float = 5
    request_seconds: float = 30
    predict_seconds: float = 60
    deploy_seconds: float = 2400


@dataclass(frozen=True)
class Form:
    """Multipart body. Files given by path are opened when sent and read in blocks, never whole; a folder is zipped.

    files: of each its field, itself, and the name under which it is sent.
    """

    fields: Mapping[str, str]
    files: Sequence[tuple[str, File, str]]
    on_bytes: OnBytes | None = None

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """Return the form as arguments of an HTTP client's `request`. Raises OSError for a file that cannot be read."""
        with ExitStack() as stack:
            parts = []
            for name, file, filename in self.files:
                opened = stack.enter_context(_opened(file)) if isinstance(file, (str, os.PathLike)) else file
                content = _Counted(opened, self.on_bytes) if name == "file" and self.on_bytes else opened
                parts.append((name, (filename, content, "application/octet-stream")))
            yield {"data": dict(self.fields), "files": parts}


@dataclass(frozen=True)
class Call(Generic[T]):
    """Request to send. json: its body, which a prediction may have in another content type. patience: the timeout that applies. repeatable: sending it twice has the same effect as once."""

    method: str
    path: str
    parse: Callable[[Answer], T]
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = JSON
    form: Form | None = None
    patience: Literal["request", "predict", "deploy"] = "request"
    repeatable: bool = True

    @contextmanager
    def content(self) -> Iterator[dict[str, Any]]:
        """Return the body and all headers as arguments of an HTTP client's `request`."""
        if self.form is not None:
            with self.form.opened() as arguments:
                yield {**arguments, "headers": dict(self.headers)}
        elif self.body is not None:
            accepted = {"Accept": CSV} if self.content_type == CSV else {}
            yield {"content": self.body, "headers": {"Content-Type": self.content_type, **accepted, **self.headers}}
        else:
            yield {"headers": dict(self.headers)}

    def read_seconds(self, timeouts: Timeouts) -> float:
        return float(getattr(timeouts, f"{self.patience}_seconds"))


class VersionOptions(TypedDict, total=False):
    """Options of a new version of a model.

    code_files: Python files, or folders of them, that the model imports, and the script that defines what its pickle
    takes from `__main__`: of a script only the definitions are used, the rest of it does not run. expected_input: a JSON-able request body
    known to be right, or JSON as bytes. requirements: lines of a requirements file; they override what PRISM infers.
    target: "auto", "docker" or "process". allow_unsafe: consent to load a file with dangerous globals. allow_packages:
    names of packages that PRISM does not know and may install, or module=name if the names differ. accelerate: whether
    a faster variant, proven equal, may serve; None leaves it to the server. replicas: number of copies that serve; None
    leaves it to the model's model_config.yaml. keep: whether models of other names keep running beside this one, where
    the server has one model live at a time; None for what was said of the model's last version. version: number of the new
    version; it must be free. bump: the part of the highest number that it raises instead, "major", "minor" or "patch".
    traffic: "all" to take over, "none" to run beside the live version without its requests, "auto" for none beside a live
    version, otherwise all. metadata: what is kept and shown with the version; its numbers are metrics. parent: number of
    the version that it was made from; None for the one that answers. gpu: True for every GPU, a number of GPUs, or their ids. on_bytes:
    called with how much of the file has been sent. request_id: id by which `inspections` reports the upload's place in
    the queue.
    """

    description: str | None
    expected_input: Any
    requirements: str | Sequence[str] | None
    python_version: str | None
    target: str | None
    code_files: Sequence[File]
    allow_unsafe: bool
    allow_packages: Sequence[str]
    accelerate: bool | None
    replicas: int | None
    keep: bool | None
    version: str | None
    bump: Bump | None
    traffic: Traffic | None
    metadata: Mapping[str, Any] | None
    parent: str | None
    gpu: bool | int | Sequence[str]
    on_bytes: OnBytes | None
    request_id: str | None


class DeployOptions(VersionOptions, total=False):
    """Options of a deployment. name: defaults to one made from the file's name."""

    name: str | None


def deploy(model: File | Any, **options: Unpack[DeployOptions]) -> Call[Model]:
    """Upload a model file, an archive or a folder, or a model from memory, and make it live. The answer comes as soon as
    the upload is received.

    Never repeated once the upload may have arrived.
    """
    return _send("/models/upload-and-run", model, options)


def upload(model: File | Any, **options: Unpack[DeployOptions]) -> Call[Model]:
    """Upload a model file, store and build it; otherwise like `deploy`."""
    return _send("/models/upload", model, options)


def register(
    name: str, model: Any, path: File | None, framework: str | None, **options: Unpack[VersionOptions]
) -> Call[Model]:
    """Upload a version that takes no traffic beside a live one. framework: what the model must have been made with.

    Raises InvalidRequest unless exactly one of `model` and `path` is given, and for a model of another framework.
    """
    if (model is None) == (path is None):
        raise InvalidRequest(
            "Give a model or its file, and not both.", hint="register_model(name, model_object=model), or path=FILE."
        )
    if framework is not None:
        from prism.memory import check_framework

        check_framework(framework, model)
    return _send("/models", path if model is None else model, {"name": name, **options})


def list_models(framework: str | None = None) -> Call[list[Model]]:
    return Call("GET", "/models", responses.models, params={} if framework is None else {"framework": framework})


def versions(name: str) -> Call[list[Version]]:
    return Call("GET", _path(name, "versions"), responses.versions)


def diff(name: str, before: str | None, after: str | None) -> Call[Difference]:
    given = {"from": before, "to": after}
    params = {field: value for field, value in given.items() if value is not None}
    return Call("GET", _path(name, "diff"), responses.difference, params=params)


def rollback(ref: str, to: str | None) -> Call[Model]:
    """Make an earlier version live. Not retried automatically: a second one would go back further."""
    body = encode({} if to is None else {"to": to})
    return Call("POST", _path(ref, "rollback"), responses.model, body=body, patience="deploy", repeatable=False)


def get_model(ref: str) -> Call[Model]:
    return Call("GET", _path(ref), responses.model)


def delete_model(ref: str) -> Call[list[str]]:
    return Call("DELETE", _path(ref), responses.removed, patience="deploy", repeatable=False)


def act(ref: str, action: Literal["stop", "restart", "dismiss"]) -> Call[Model]:
    """Stop, restart or dismiss a model. Not retried automatically: a second restart would end the first one's replica."""
    return Call("POST", _path(ref, action), responses.model, patience="deploy", repeatable=False)


def start(ref: str, keep: bool | None = None) -> Call[Model]:
    """Start a model. keep: whether models of other names keep running beside it; None for as it is."""
    params = {} if keep is None else {"keep": str(keep).lower()}
    path = _path(ref, "start")
    return Call("POST", path, responses.model, params=params, patience="deploy", repeatable=False)


def scale(ref: str, replicas: int) -> Call[Model]:
    """Change the number of replicas. The answer comes once that many serve, or once it is known that they cannot."""
    return Call("PATCH", _path(ref), responses.model, body=encode({"replicas": replicas}), patience="deploy")


def chaos(ref: str, seconds: float, faults: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Break a version on purpose. faults: what is None or False is left out."""
    asked = {name: value for name, value in faults.items() if value is not None and value is not False}
    body = encode({"seconds": seconds, **asked})
    return Call("POST", _path(ref, "chaos"), responses.decode, body=body, repeatable=False)


def end_chaos(ref: str) -> Call[dict[str, Any]]:
    return Call("DELETE", _path(ref, "chaos"), responses.decode)


def predict(ref: str, data: Any, *, probabilities: bool = False, key: str | None = None) -> Call[Prediction]:
    """Predict. key: by which an experiment tells callers apart; None for the API key."""
    params = {"probabilities": "true"} if probabilities else {}
    body = predict_body(data, encode)
    return Call(
        "POST",
        _path(ref, "predict"),
        responses.prediction,
        params=params,
        headers={} if key is None else {KEY_HEADER: key},
        body=body.content,
        content_type=body.content_type,
        patience="predict",
    )


def one_input(data: Any, inputs: Any) -> Any:
    """Return the input of a prediction, by whichever name it was given. Raises InvalidRequest unless exactly one was."""
    if (data is None) == (inputs is None):
        raise InvalidRequest(
            "Give one input.", hint='predict("iris", {"age": 41}), or predict("iris", inputs={"age": 41}).'
        )
    return inputs if data is None else data


def predict_rows(
    ref: str, rows: Sequence[Any], *, probabilities: bool = False, key: str | None = None
) -> Call[Prediction]:
    """Predict rows, each an object by column or a list of values, in one request."""
    return predict(ref, {"instances": list(rows)}, probabilities=probabilities, key=key)


def predict_table(ref: str, rows: bytes, *, probabilities: bool = False) -> Call[TableAnswer]:
    """Predict rows of CSV, after their line of names. They come back with the results beside them.

    The last column has the error of each row that has no result, in every batch of a file.
    """
    params = {"errors": "true", **({"probabilities": "true"} if probabilities else {})}
    return Call("POST", _path(ref, "predict"), table, params=params, body=rows, content_type=CSV, patience="predict")


def logs(
    ref: str, *, tail: int = 200, kind: LogKind = "runtime", replica: int | None = None, timestamps: bool = False
) -> Call[list[str]]:
    """Return the last log lines. replica: number of the replica; None for all."""
    chosen = {} if replica is None else {"replica": str(replica)}
    chosen |= {"timestamps": "true"} if timestamps else {}
    return Call("GET", _path(ref, "logs"), responses.lines, params={"tail": str(tail), "kind": kind, **chosen})


def health() -> Call[Health]:
    return Call("GET", "/health", responses.health)


def doctor() -> Call[dict[str, Any]]:
    return Call("GET", "/doctor", responses.decode)


def monitor() -> Call[dict[str, Any]]:
    return Call("GET", "/health/monitor", responses.decode)


def inspections() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/inspections", responses.inspections)


def replacement(name: str | None, file: File, keep: bool | None, traffic: Traffic | None = None) -> Call[Replacement]:
    given = {
        "model_name": name,
        "filename": _filename(file),
        "keep": None if keep is None else str(keep).lower(),
        "traffic": traffic,
    }
    params = {field: value for field, value in given.items() if value is not None}
    return Call("GET", "/replacement", responses.replacement, params=params)


def replacement_by(ref: str, keep: bool | None) -> Call[Replacement]:
    given = {} if keep is None else {"keep": str(keep).lower()}
    return Call("GET", "/replacement", responses.replacement, params={"ref": ref, **given})


def registry() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/registry", responses.entries)


def storage() -> Call[dict[str, Any]]:
    return Call("GET", "/storage", responses.decode, patience="deploy")


def prune_storage() -> Call[dict[str, Any]]:
    return Call("POST", "/storage/prune", responses.decode, patience="deploy")


def prune_stale() -> Call[list[str]]:
    return Call("POST", "/registry/prune-stale", responses.pruned)


def share(refs: Sequence[str] = (), *, create_key: bool = False, open_to_all: bool = False) -> Call[Share]:
    """Share models. Not retried automatically: a second call would make a second key."""
    body = encode({"models": list(refs), "create_key": create_key, "open": open_to_all})
    return Call("POST", "/share", responses.share, body=body, patience="deploy", repeatable=False)


def share_status() -> Call[Share]:
    return Call("GET", "/share", responses.share)


def stop_share(ref: str | None = None) -> Call[Share]:
    return Call("DELETE", "/share" if ref is None else f"/share/{quote(_named(ref), safe='@')}", responses.share)


def list_keys() -> Call[list[ApiKey]]:
    return Call("GET", "/keys", responses.api_keys)


def create_key(name: str) -> Call[ApiKey]:
    """Make a key. Not retried automatically: a second call would make a second key."""
    return Call("POST", "/keys", responses.api_key, body=encode({"name": name}), repeatable=False)


def revoke_key(id: str) -> Call[Revocation]:
    if not id.strip("./ "):
        raise InvalidRequest(f"{id!r} is not the id of a key.", hint="Give its id; `prism keys ls` shows them.")
    return Call("DELETE", f"/keys/{quote(id, safe='')}", responses.revocation)


def encode(data: Any) -> bytes:
    """Encode a request body: bytes are JSON already; a DataFrame becomes `dataframe_split`, an array a nested list,
    a date its text in ISO 8601.

    NaN, NaT and infinities become null. Raises InvalidRequest for data that has no JSON form.
    """
    if isinstance(data, bytes):
        return data
    if hasattr(data, "columns") and hasattr(data, "to_dict"):
        data = {"dataframe_split": data.to_dict(orient="split")}
    try:
        return msgspec.json.encode(data, enc_hook=_plain)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"This input cannot be written as JSON: {error}.",
            hint="Give numbers, text, lists, objects, arrays or a DataFrame.",
        ) from error


def _send(path: str, model: File | Any, options: DeployOptions) -> Call[Model]:
    code: list[File] = [*options.get("code_files", ())]
    if isinstance(model, (str, os.PathLike)) or callable(getattr(model, "read", None)):
        file: File = model
    else:
        from prism.memory import serialised

        file, defined = serialised(model)
        code += defined
    expected_input, requirements = options.get("expected_input"), options.get("requirements")
    fields = {
        "model_name": options.get("name"),
        "model_description": options.get("description"),
        "expected_input_json": None if expected_input is None else encode(expected_input).decode(),
        "requirements": requirements if isinstance(requirements, str | None) else "\n".join(requirements),
        "python_version": options.get("python_version"),
        "target": options.get("target"),
        "allow_unsafe": "true" if options.get("allow_unsafe") else None,
        "allow_packages": ",".join(options.get("allow_packages", ())) or None,
        "gpu": _gpu(options.get("gpu", False)),
        "accelerate": {True: "auto", False: "off", None: None}[options.get("accelerate")],
        "replicas": None if options.get("replicas") is None else str(options["replicas"]),
        "keep": {True: "true", False: "false", None: None}[options.get("keep")],
        "version": options.get("version"),
        "bump": options.get("bump"),
        "traffic": options.get("traffic"),
        "metadata": None if options.get("metadata") is None else encode(options["metadata"]).decode(),
        "parent": options.get("parent"),
    }
    request_id = options.get("request_id")
    code_files = [("code_files", *part) for each in code for part in code_parts(each)]
    return Call(
        "POST",
        path,
        responses.model,
        params={"wait": "false"},
        headers={} if request_id is None else {"X-Request-ID": request_id},
        form=Form(
            fields={name: value for name, value in fields.items() if value is not None},
            files=[("file", file, _filename(file)), *code_files],
            on_bytes=options.get("on_bytes"),
        ),
        patience="deploy",
        repeatable=False,
    )


def _gpu(wanted: bool | int | Sequence[str]) -> str | None:
    if isinstance(wanted, Sequence):
        return f"device={','.join(wanted)}"
    return str(wanted).lower() if wanted else None


def _plain(value: Any) -> Any:
    """Convert arrays, dates and scalars of numpy, pandas and similar libraries, which are not imported here."""
    if isinstance(value, date):  # pandas' Timestamp and NaT, which msgspec does not know as dates
        return value.isoformat() if value == value else None
    if type(value).__name__ == "NAType":
        return None
    if getattr(getattr(value, "dtype", None), "str", "").endswith(FINER_THAN_DATETIME):
        value = value.astype("datetime64[us]")  # whose tolist() gives dates, not numbers
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"it holds a value of type {type(value).__name__}")


def _path(ref: str, action: str = "") -> str:
    return f"/models/{quote(_named(ref), safe='@')}" + (f"/{action}" if action else "")


def _named(ref: str) -> str:
    if not ref.strip("./ "):
        raise InvalidRequest(
            f"{ref!r} is not a reference to a model.",
            hint="Give a name, name@version or a model_id; `prism ls` shows them.",
        )
    return ref


def _opened(path: str | os.PathLike[str]) -> AbstractContextManager[IO[bytes]]:
    return zipped(Path(path)) if os.path.isdir(path) else open(path, "rb")


def _filename(file: File) -> str:
    """Return the filename of the upload; for a folder, that of its archive."""
    path = file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", None)
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        return f"{Path(path).resolve().name}.zip"
    return Path(path).name if isinstance(path, (str, os.PathLike)) else "model"


class _Counted:
    """Binary file that reports how far it has been read."""

    def __init__(self, file: IO[bytes], on_bytes: OnBytes | None) -> None:
        self._file = file
        self._on_bytes = on_bytes or (lambda sent, total: None)
        self._sent = 0
        self._total = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._sent += len(block)
        if block:
            self._on_bytes(self._sent, self._total)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = self._file.seek(offset, whence)
        self._sent = position if whence == os.SEEK_SET else self._sent
        return position

    def tell(self) -> int:
        return self._file.tell()
