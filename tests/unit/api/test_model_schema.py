"""The description of one model's predictions says what its signature says, and nothing that it does not."""

from __future__ import annotations

from typing import Any

from app.api.model_schema import answer_schema, body_schema, model_openapi
from app.core.model import Artifact
from app.core.signature import Signature, Tensor
from tests.records import model_version

COLUMNS = (
    Tensor("fare", "FP64", (-1,)),
    Tensor("port", "BYTES", (-1,), choices=("C", "Q")),
    Tensor("cabin", "UINT8", (-1,), optional=True),
)


def forms(signature: Signature) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body_schema(signature)["anyOf"]
    return found


def test_named_columns_are_taken_by_name_as_rows_as_columns_and_in_their_order() -> None:
    row, rows, columns, features, matrix = forms(Signature("table", COLUMNS, named=True))
    assert row["properties"] == {
        "fare": {"type": "number"},
        "port": {"enum": ["C", "Q"]},
        "cabin": {"type": "integer", "minimum": 0},
    }
    assert row["required"] == ["fare", "port"], "an optional column may be left out"
    assert rows == {"type": "array", "items": row}
    assert columns["properties"]["inputs"]["properties"]["fare"] == {"type": "array", "items": {"type": "number"}}
    assert features["properties"]["features"] == matrix
    assert (matrix["items"]["minItems"], matrix["items"]["maxItems"]) == (3, 3)


def test_columns_without_names_are_taken_in_their_order_alone() -> None:
    features, matrix = forms(Signature("table", (Tensor("x0", "FP32", (-1,)), Tensor("x1", "FP32", (-1,)))))
    assert features["required"] == ["features"]
    assert matrix["items"] == {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}


def test_a_tensor_is_an_array_of_its_shape() -> None:
    schema = body_schema(Signature("tensors", (Tensor("pixels", "UINT8", (-1, 28, 28)),)))
    pixels = schema["properties"]["inputs"]["properties"]["pixels"]
    assert "maxItems" not in pixels
    assert pixels["items"]["maxItems"] == pixels["items"]["items"]["maxItems"] == 28
    assert pixels["items"]["items"]["items"] == {"type": "integer", "minimum": 0}


def test_a_classifier_answers_one_of_its_classes() -> None:
    signature = Signature("table", COLUMNS, classes=("no", "yes"), methods=("predict", "predict_proba"))
    properties = answer_schema(signature)["properties"]
    assert properties["predictions"]["items"] == {"enum": ["no", "yes"]}
    assert "probabilities" in properties
    numbers = answer_schema(Signature("table", COLUMNS, (Tensor("predictions", "FP64", (-1, 2)),)))
    assert numbers["properties"]["predictions"]["items"]["items"] == {"type": "number"}
    assert "probabilities" not in numbers["properties"]


def test_a_model_of_unknown_inputs_takes_any_request() -> None:
    file = Artifact("iris.onnx", "0" * 64, 1)
    model = model_version("a" * 12, "iris", "1.0.0", file, "2026-01-02T12:00:00Z")
    described = model_openapi(model, "http://here")
    assert described["components"]["schemas"]["PredictionRequest"] == {}
    assert described["servers"] == [{"url": "http://here"}]
    (path,) = described["paths"]
    assert path == "/models/iris/predict"


def test_a_model_of_images_takes_files_too() -> None:
    file = Artifact("cnn.onnx", "0" * 64, 1)
    kinds = []
    for shape in ((-1, 3, 224, 224), (-1, 4)):
        signature = Signature("tensors", (Tensor("image", "FP32", shape),))
        model = model_version("a" * 12, "cnn", "1.0.0", file, "2026-01-02T12:00:00Z", signature=signature)
        (path,) = model_openapi(model, "http://here")["paths"].values()
        kinds.append(set(path["post"]["requestBody"]["content"]))
    assert kinds[0] == {"application/json", "image/png", "image/jpeg", "image/webp", "multipart/form-data"}
    assert kinds[1] == {"application/json"}
