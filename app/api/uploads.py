"""Uploads over HTTP: the form of the API's routes and of the pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from fastapi import Request
from msgspec import structs
from starlette.requests import ClientDisconnect

from app.errors import BadInput
from app.http.guard import caller_address
from app.http.problems import request_id_of
from app.lifecycle.intake.multipart import FIELDS
from app.lifecycle.intake.receive import Form, receive
from app.lifecycle.state import DeploymentState

FILE: dict[str, Any] = {
    "type": "string",
    "format": "binary",
    "description": "The model file: pickle, joblib, skops, ONNX or PyTorch; or a folder as .zip or .tar.gz.",
}
CODE_FILES: dict[str, Any] = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "description": "Python files that define classes the pickle takes from `__main__`.",
}
UPLOAD_PROPERTIES: dict[str, Any] = {
    "file": FILE,
    "upload_id": {"type": "string", "description": "The upload_id from POST /models/inspect, in place of `file`."},
    "model_name": {"type": "string", "description": "Name under which the model is called; default: the file's name."},
    "model_description": {"type": "string"},
    "expected_input_json": {
        "type": "string",
        "description": "One request that the model can answer; used to check the model before it takes traffic.",
    },
    "requirements": {
        "type": "string",
        "description": "Requirement lines; they take precedence over what PRISM reads from the file.",
    },
    "python_version": {"type": "string", "examples": ["3.11"]},
    "target": {"type": "string"},
    "code_files": CODE_FILES,
    "accelerate": {
        "type": "string",
        "enum": ["auto", "off"],
        "description": "Serve the model in ONNX if that is proven equal and faster; default: the server's setting.",
    },
    "gpu": {
        "type": "string",
        "examples": ["true", "2", "device=0,1"],
        "description": "GPUs for the container: true for all, a number, or ids; see gpu.md.",
    },
    "replicas": {"type": "integer", "description": "How many copies of the model serve, 1 to 64; see replicas.md."},
    "keep": {
        "type": "string",
        "enum": ["true", "false"],
        "description": "Keep models of other names running beside this one, where only one model is active; default: as for "
        "the last version of this name.",
    },
    "side_effects": {
        "type": "string",
        "enum": ["true", "false"],
        "description": "Whether a prediction changes something outside the model; then no request is retried, rescued or "
        "copied. Default: as model_config.yaml says, otherwise false.",
    },
    "version": {
        "type": "string",
        "examples": ["2.0.0"],
        "description": "Number of the new version, major.minor.patch; 409 if it is taken. Default: the next one.",
    },
    "bump": {
        "type": "string",
        "enum": ["major", "minor", "patch"],
        "description": "Part of the highest version's number that the new one raises; default: major for POST /models, "
        "minor otherwise.",
    },
    "traffic": {
        "type": "string",
        "enum": ["auto", "all", "none"],
        "description": "all: takes over once it answers. none: built, started and probed beside the live version, without "
        "its requests. auto: none beside a live version, otherwise all. Default: auto for POST /models, all otherwise.",
    },
    "metadata": {
        "type": "string",
        "examples": ['{"auc": 0.94, "trained_on": "2026-Q1", "git_commit": "3f2c1ab", "author": "Ada"}'],
        "description": "A JSON object about this version, kept and shown with it; numbers are metrics, which are compared.",
    },
    "parent": {
        "type": "string",
        "examples": ["1.0.0"],
        "description": "The version of the same name that this one was made from; default: the one that answers.",
    },
    "allow_unsafe": {
        "type": "string",
        "enum": ["true", "false"],
        "description": "Accept globals that run code when the file is loaded; the consent is recorded.",
    },
    "allow_packages": {
        "type": "string",
        "examples": ["acme-models", "acme=acme-models"],
        "description": "Packages that PRISM does not know and may install, with commas or more than once: a name, or "
        "module=name; their code runs in the sandbox, and the consent is recorded.",
    },
}


def multipart(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that takes such a form."""
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def upload_form(targets: Iterable[str]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that takes an upload. targets: the names that it may choose from."""
    return multipart([], {**UPLOAD_PROPERTIES, "target": {"type": "string", "enum": ["auto", *targets]}})


INSPECT_FIELDS = ("file", "code_files")
INSPECT_FORM = multipart(["file"], {"file": FILE, "code_files": CODE_FILES})


async def received(
    request: Request,
    state: DeploymentState,
    max_upload_bytes: int,
    fields: Collection[str] = FIELDS,
    texts: dict[str, str] | None = None,
) -> Form:
    """Receive the form of a request, its files on disk. See `receive` for the parameters and errors."""
    length = request.headers.get("content-length", "")
    try:
        form = await receive(
            request.stream(),
            request.headers.get("content-type", ""),
            int(length) if length.isdigit() else None,
            state.folder(""),
            max_upload_bytes,
            fields,
            texts,
        )
        return structs.replace(form, request_id=request_id_of(request), address=caller_address(request))
    except ClientDisconnect as error:
        raise BadInput("The client closed the connection during the upload.") from error
