"""The Open Inference Protocol V2 over REST, by Triton's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.acceptance.served import ROWS, SPECIES, TARGETS, bf16_graph, passing_graph, serving
from tests.acceptance.server import Server

KEY = "an-admin-key"


@pytest.fixture(scope="module", params=TARGETS)
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    environments: Path,
    iris_file: Path,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("graphs")
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET=request.param) as server:
        server.deploy(iris_file, model_name="iris")
        server.deploy(passing_graph(folder / "passing.onnx"))
        server.deploy(bf16_graph(folder / "bf16.onnx"))
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        yield client


def sent(name: str, array: Any, *, binary: bool = True) -> InferInput:
    one = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return one.set_data_from_numpy(array, binary_data=binary)


def texts(result: Any, name: str) -> list[Any]:
    return [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy(name).ravel()]


def test_the_server_and_its_models_are_live_and_ready(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "1.0.0")
    assert not client.is_model_ready("iris", "9.0.0")
    assert not client.is_model_ready("nobody")


def test_metadata_and_configuration_say_how_to_ask(client: InferenceServerClient) -> None:
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    said = client.get_model_metadata("passing", "1.0.0")
    assert said["versions"] == ["1.0.0"]
    assert said["platform"] == "onnxruntime_onnx"
    assert said["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1, 2]},
        {"name": "half", "datatype": "FP16", "shape": [-1, 2]},
        {"name": "count", "datatype": "INT64", "shape": [-1, 2]},
    ]
    config = client.get_model_config("passing")
    assert [one["data_type"] for one in config["input"]] == ["TYPE_STRING", "TYPE_FP16", "TYPE_INT64"]


@pytest.mark.parametrize("binary", [True, False])
def test_what_the_metadata_say_is_answered_when_it_is_sent(client: InferenceServerClient, binary: bool) -> None:
    names = [one["name"] for one in client.get_model_metadata("iris")["inputs"]]
    inputs = [sent(name, np.ascontiguousarray(ROWS[:, at]), binary=binary) for at, name in enumerate(names)]
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "predictions")]
    result = client.infer("iris", inputs, outputs=outputs, request_id="mine", model_version="1.0.0")
    assert texts(result, "predictions") == SPECIES
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 2]
    said = result.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "iris", "1.0.0")
    assert [one["name"] for one in said["outputs"]] == ["probabilities", "predictions"]


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_of_each_kind_pass_unchanged(client: InferenceServerClient, binary: bool) -> None:
    given = {
        "text": np.array([["für", ""], ["a\nb", '"']], dtype=object),
        "half": np.array([[1.5, -2], [0.1, 6e4]], dtype=np.float16),
        "count": np.array([[2**63 - 1, 0], [-(2**63), 7]]),
    }
    outputs = [InferRequestedOutput(f"{name}_out", binary_data=binary) for name in given]
    result = client.infer("passing", [sent(name, each, binary=binary) for name, each in given.items()], outputs=outputs)
    assert texts(result, "text_out") == given["text"].ravel().tolist()
    for name in ("half", "count"):
        back = result.as_numpy(f"{name}_out")
        assert back.dtype == given[name].dtype
        np.testing.assert_array_equal(back, given[name])


def test_bfloat16_passes_unchanged(client: InferenceServerClient) -> None:
    given = np.array([[1.5, -3e38], [0.1, 0]], dtype=ml_dtypes.bfloat16)
    np.testing.assert_array_equal(client.infer("bf16", [sent("x", given)]).as_numpy("y"), given)


@pytest.mark.parametrize("packed_in", ["gzip", "deflate", None])
@pytest.mark.parametrize("packed_out", ["gzip", "deflate", None])
def test_bodies_are_compressed_both_ways(
    client: InferenceServerClient, packed_in: str | None, packed_out: str | None
) -> None:
    rows = np.tile(ROWS, (300, 1))
    for binary in (True, False):
        result = client.infer(
            "iris",
            [sent("rows", rows, binary=binary)],
            outputs=[InferRequestedOutput("predictions", binary_data=binary)],
            request_compression_algorithm=packed_in,
            response_compression_algorithm=packed_out,
        )
        assert texts(result, "predictions") == SPECIES * 300


def test_requests_may_be_under_way_at_once(client: InferenceServerClient) -> None:
    asked = [client.async_infer("iris", [sent("rows", ROWS)], request_id=str(number)) for number in range(12)]
    for number, one in enumerate(asked):
        result = one.get_result()
        assert result.get_response()["id"] == str(number)
        assert texts(result, "predictions") == SPECIES


def test_statistics_grow_with_what_is_asked(client: InferenceServerClient) -> None:
    def stats() -> dict[str, Any]:
        (one,) = client.get_inference_statistics("iris")["model_stats"]
        return dict(one)

    before = stats()
    client.infer("iris", [sent("rows", ROWS)])
    with pytest.raises(InferenceServerException):
        client.infer("iris", [sent("rows", ROWS[:, :1])])
    after = stats()
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["inference_stats"]["fail"]["count"] == before["inference_stats"]["fail"]["count"] + 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert {one["name"] for one in client.get_inference_statistics()["model_stats"]} == {"iris", "passing", "bf16"}


@pytest.mark.parametrize(
    ("name", "version", "rows", "status", "words"),
    [
        ("irsi", "", ROWS, "404", "Did you mean `iris`"),
        ("iris", "9.0.0", ROWS, "404", "iris@9.0.0"),
        ("iris", "", ROWS[:, :3], "422", "4"),
    ],
)
def test_errors_reach_the_client_in_their_own_words(
    client: InferenceServerClient, name: str, version: str, rows: Any, status: str, words: str
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer(name, [sent("rows", rows)], model_version=version)
    assert raised.value.status() == status
    assert words in raised.value.message()


def test_what_is_not_offered_is_said_and_not_ignored(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("iris", [sent("rows", ROWS)], outputs=[InferRequestedOutput("predictions", class_count=2)])
    with pytest.raises(InferenceServerException):
        client.get_system_shared_memory_status()
    with pytest.raises(InferenceServerException, match="uploaded"):
        client.load_model("iris", config="{}")


def test_models_are_unloaded_and_loaded_again(client: InferenceServerClient) -> None:
    def states() -> dict[str, str]:
        return {one["name"]: one["state"] for one in client.get_model_repository_index()}

    assert states() == {"iris": "READY", "passing": "READY", "bf16": "READY"}
    client.unload_model("bf16")
    assert states()["bf16"] == "UNAVAILABLE"
    assert not client.is_model_ready("bf16")
    with pytest.raises(InferenceServerException):
        client.infer("bf16", [sent("x", np.zeros((1, 2), dtype=ml_dtypes.bfloat16))])
    client.load_model("bf16")
    assert states()["bf16"] == "READY"
    assert client.is_model_ready("bf16")
    with pytest.raises(InferenceServerException, match="nobody"):
        client.load_model("nobody")


def test_who_may_predict_may_not_load_or_unload(
    tmp_path_factory: pytest.TempPathFactory, environments: Path, iris_file: Path
) -> None:
    keys = {"PRISM_ADMIN_KEYS": KEY, "PRISM_API_KEYS": "a-key", "PRISM_TARGET": "process"}
    with serving(tmp_path_factory.mktemp("home"), environments, **keys) as server:
        with iris_file.open("rb") as file:
            made = server.http.post(
                "/models", files={"file": file}, data={"model_name": "iris"}, headers={"X-API-Key": KEY}
            )
        assert made.status_code == 201, made.text
        with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            holder = {"Authorization": "Bearer a-key"}
            assert texts(client.infer("iris", [sent("rows", ROWS)], headers=holder), "predictions") == SPECIES
            assert client.get_model_repository_index(headers=holder)[0]["name"] == "iris"
            for headers, status in ((holder, "403"), (None, "401")):
                with pytest.raises(InferenceServerException) as raised:
                    client.unload_model("iris", headers=headers)
                assert raised.value.status() == status
            assert client.is_model_ready("iris", headers=holder)
            assert client.is_server_live()
