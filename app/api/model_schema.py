"""OpenAPI description of one model's predictions, written from its signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from app.core.model import ModelVersion
from app.core.signature import Signature, Tensor
from app.protocols.native import FILE_BODIES, FORM_OF_FILES
from app.runtime.runtime_config import file_input_of
from model_container.contract.file_types import AUDIO, IMAGE
from model_container.contract.image_input import ImageInput

NUMBERS = {"FP": {"type": "number"}, "BF": {"type": "number"}, "INT": {"type": "integer"}}
TYPES: Mapping[str, dict[str, Any]] = {
    **NUMBERS,
    "UINT": {"type": "integer", "minimum": 0},
    "BYTES": {"type": "string"},
    "BOOL": {"type": "boolean"},
}
ANSWER = "PredictionAnswer"
BODY = "PredictionRequest"


def model_openapi(model: ModelVersion, base_url: str) -> dict[str, Any]:
    """Return the description of the model's predict route.

    base_url: how the caller reaches this server, without a trailing slash. Without a signature, as before the model was
    first live, any JSON value is a request.
    """
    signature = model.findings.signature
    request: dict[str, Any] = {"schema": reference(BODY)}
    files = file_bodies(model)
    if model.findings.sample is not None:
        request["example"] = model.findings.sample
    return {
        "openapi": "3.1.0",
        "info": {"title": model.name, "version": model.version, "description": model.spec.description},
        "servers": [{"url": base_url}],
        "paths": {
            f"/models/{quote(model.name)}/predict": {
                "post": {
                    "operationId": "predict",
                    "summary": f"Predict with {model.name}",
                    "parameters": [probabilities()] if offers_probabilities(signature) else [],
                    "requestBody": {"required": True, "content": {"application/json": request, **files}},
                    "responses": {
                        "200": {"description": "Predictions", "content": json_content(reference(ANSWER))},
                        "default": {"description": "A problem, which names the value and the next step", "content": {}},
                    },
                }
            }
        },
        "components": {
            "schemas": {BODY: body_schema(signature), ANSWER: answer_schema(signature)},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def file_bodies(model: ModelVersion) -> dict[str, Any]:
    """Return the bodies of files that the model takes: images, sounds or none."""
    wanted = file_input_of(model)
    if wanted is None:
        return {}
    return {**FILE_BODIES[IMAGE if isinstance(wanted, ImageInput) else AUDIO], **FORM_OF_FILES}


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def json_content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def probabilities() -> dict[str, Any]:
    description = "Also return class probabilities."
    return {"name": "probabilities", "in": "query", "schema": {"type": "boolean"}, "description": description}


def offers_probabilities(signature: Signature | None) -> bool:
    return signature is not None and "predict_proba" in signature.methods


def body_schema(signature: Signature | None) -> dict[str, Any]:
    """Return the forms in which the model takes its input."""
    if signature is None or not signature.inputs:
        return {}
    if signature.kind != "table":
        inputs = {tensor.name: nested(tensor, tensor.shape) for tensor in signature.inputs}
        return wrapped("inputs", named(inputs, required(signature.inputs)))
    columns = {tensor.name: value(tensor) for tensor in signature.inputs}
    row = named(columns, required(signature.inputs))
    rows = array(array(alternatives(signature.inputs), len(columns)))
    lists = {name: array(schema) for name, schema in columns.items()}
    by_name = [row, array(row), wrapped("inputs", named(lists, required(signature.inputs)))]
    return {"anyOf": [*(by_name if signature.named else ()), wrapped("features", rows), rows]}


def answer_schema(signature: Signature | None) -> dict[str, Any]:
    """Return the answer. Of the outputs, the first holds the predictions of a table; tensors are answered by name."""
    prediction: dict[str, Any] = {}
    if signature is not None and signature.kind == "table":
        if signature.classes:
            prediction = {"enum": list(signature.classes)}
        elif signature.outputs:
            prediction = nested(signature.outputs[0], signature.outputs[0].shape[1:])
    texts = {name: {"type": "string"} for name in ("model", "version", "model_id")}
    properties: dict[str, Any] = {**texts, "predictions": array(prediction)}
    if offers_probabilities(signature):
        properties["classes"] = array({})
        properties["probabilities"] = array(array({"type": "number"}))
    return {"type": "object", "required": ["model", "predictions"], "properties": properties}


def value(tensor: Tensor) -> dict[str, Any]:
    """Return the schema of one value."""
    if tensor.choices:
        return {"enum": list(tensor.choices)}
    return TYPES.get(tensor.datatype.rstrip("0123456789"), {})


def nested(tensor: Tensor, shape: Sequence[int]) -> dict[str, Any]:
    """Return the schema of an array of that shape; −1 is any length."""
    return array(nested(tensor, shape[1:]), shape[0]) if shape else value(tensor)


def array(items: dict[str, Any], length: int = -1) -> dict[str, Any]:
    return {"type": "array", "items": items, **({"minItems": length, "maxItems": length} if length >= 0 else {})}


def alternatives(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """Return the schema of a value of any of the columns."""
    schemas: list[dict[str, Any]] = []
    for schema in map(value, tensors):
        if schema not in schemas:
            schemas.append(schema)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def required(tensors: Sequence[Tensor]) -> list[str]:
    return [tensor.name for tensor in tensors if not tensor.optional]


def named(properties: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def wrapped(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return named({name: schema}, [name])
