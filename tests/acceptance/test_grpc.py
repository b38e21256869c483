"""The Open Inference Protocol over gRPC, through the client that people use for it, tritonclient."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import joblib
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from sklearn.datasets import load_iris
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server, free_port

KEYS = {"PRISM_API_KEYS": "caller", "PRISM_ADMIN_KEYS": "owner"}
CALLER = {"x-api-key": "caller"}
OWNER = {"authorization": "Bearer owner"}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture
def open_server(module_server: StartServer, port: int, iris_file: Path) -> Iterator[tuple[Server, str]]:
    """A server with a live model `iris`, and where it speaks gRPC. What a test deploys beside it goes with the test."""
    server = module_server(PRISM_TARGET="process", PRISM_GRPC_PORT=port, PRISM_SINGLE_ACTIVE_MODEL="false")
    if not server.http.get("/models").json()["models"]:
        server.deploy(iris_file, model_name="iris")
    yield server, f"127.0.0.1:{port}"
    for model in server.http.get("/models").json()["models"]:
        if model["name"] != "iris":
            server.http.delete(f"/models/{model['name']}")
    if server.model("iris")["status"] != "live":
        assert server.http.post("/models/iris/start").status_code == 200


@pytest.fixture
def connect() -> Iterator[Callable[[str], Any]]:
    clients: list[Any] = []

    def connected(url: str) -> Any:
        clients.append(triton.InferenceServerClient(url))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def no_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server without models speaks gRPC."""
    port = free_port()
    home = tmp_path_factory.mktemp("home")
    server = Server(home, home / "environments", PRISM_TARGET="process", PRISM_GRPC_PORT=port)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop()


def with_grpc(start_server: StartServer, **settings: object) -> tuple[Server, str]:
    """A server and where it speaks gRPC."""
    port = free_port()
    server = start_server(PRISM_TARGET="process", PRISM_GRPC_PORT=port, PRISM_SINGLE_ACTIVE_MODEL="false", **settings)
    return server, f"127.0.0.1:{port}"


def tensor(name: str, values: Any, datatype: str) -> Any:
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values)
    return given


def rows(count: int) -> Any:
    return load_iris().data[:count].astype(np.float64)


def columns(count: int) -> list[Any]:
    """Iris rows as the four named inputs of the pipeline."""
    names = load_iris().feature_names
    return [tensor(name, rows(count)[:, index].copy(), "FP64") for index, name in enumerate(names)]


def expected(file: Path, count: int) -> list[str]:
    frame = load_iris(as_frame=True).data[:count]
    return [str(each) for each in joblib.load(file).predict(frame)]


def status_of(call: Callable[[], object]) -> tuple[str, str]:
    """The status code and the text with which a call is refused."""
    with pytest.raises(InferenceServerException) as refused:
        call()
    return str(refused.value.status()).removeprefix("StatusCode."), str(refused.value.message())


def test_a_model_is_asked_over_grpc(
    open_server: tuple[Server, str], connect: Callable[[str], Any], iris_file: Path
) -> None:
    server, url = open_server
    client = connect(url)

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "1.0.0")
    assert client.get_server_metadata(as_json=True)["name"] == "PRISM"
    over_rest = server.http.get("/v2/models/iris").json()
    over_grpc = client.get_model_metadata("iris", as_json=True)
    assert [one["name"] for one in over_grpc["inputs"]] == [one["name"] for one in over_rest["inputs"]]
    assert over_grpc["versions"] == ["1.0.0"]

    answer = client.infer(
        "iris", columns(120), request_id="seven", model_version="1.0.0", headers={"x-request-id": "a"}
    )

    (output,) = answer.get_response().outputs
    assert [text.decode() for text in answer.as_numpy(output.name).ravel()] == expected(iris_file, 120)
    assert (answer.get_response().id, answer.get_response().model_version) == ("seven", "1.0.0")


def test_an_asynchronous_client_gets_many_answers_at_once(open_server: tuple[Server, str], iris_file: Path) -> None:
    _, url = open_server

    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(url) as client:
            return await asyncio.gather(*(client.infer("iris", columns(count)) for count in range(1, 33)))

    for count, answer in enumerate(asyncio.run(ask()), start=1):
        name = answer.get_response().outputs[0].name
        assert [text.decode() for text in answer.as_numpy(name).ravel()] == expected(iris_file, count)


def test_errors_are_statuses_with_the_text_of_rest(
    open_server: tuple[Server, str], connect: Callable[[str], Any]
) -> None:
    server, url = open_server
    client = connect(url)
    nothing = server.http.post("/v2/models/nothing/infer", json={"inputs": []}).json()["error"]

    assert status_of(lambda: client.infer("nothing", columns(1))) == ("NOT_FOUND", nothing)
    assert status_of(lambda: client.get_model_metadata("nothing"))[0] == "NOT_FOUND"
    code, text = status_of(lambda: client.infer("iris", columns(1)[:2]))
    assert code == "INVALID_ARGUMENT"
    assert "petal" in text
    asked = [triton.InferRequestedOutput("no such output")]
    assert status_of(lambda: client.infer("iris", columns(1), outputs=asked))[0] == "INVALID_ARGUMENT"
    server.http.post("/models/iris/stop")
    code, text = status_of(lambda: client.infer("iris", columns(1)))
    assert code == "FAILED_PRECONDITION"
    assert "is stopped" in text
    assert not client.is_model_ready("iris")


def test_a_message_over_the_body_limit_is_refused(
    start_server: StartServer, connect: Callable[[str], Any], iris_file: Path
) -> None:
    server, url = with_grpc(start_server, PRISM_MAX_BODY_MB=1)
    server.deploy(iris_file, model_name="iris")
    values = np.zeros((1 << 17) + 1)

    assert status_of(lambda: connect(url).infer("iris", [tensor("X", values, "FP64")]))[0] == "RESOURCE_EXHAUSTED"


def test_keys_open_predictions_and_admin_keys_the_repository(
    start_server: StartServer, connect: Callable[[str], Any], iris_file: Path
) -> None:
    server, url = with_grpc(start_server, PRISM_RATE_LIMIT_REQUESTS=2, **KEYS)
    server.http.headers["x-api-key"] = "owner"
    server.deploy(iris_file, model_name="iris")
    client = connect(url)

    assert client.is_server_live()
    assert status_of(lambda: client.infer("iris", columns(1)))[0] == "UNAUTHENTICATED"
    assert status_of(lambda: client.infer("iris", columns(1), headers={"x-api-key": "wrong"}))[0] == "UNAUTHENTICATED"
    assert status_of(lambda: client.get_model_metadata("iris"))[0] == "UNAUTHENTICATED"
    assert status_of(client.get_model_repository_index)[0] == "UNAUTHENTICATED"
    assert client.infer("iris", columns(1), headers=CALLER)
    assert client.infer("iris", columns(1), headers=CALLER)
    code, text = status_of(lambda: client.infer("iris", columns(1), headers=CALLER))
    assert code == "RESOURCE_EXHAUSTED"
    assert "Try again in" in text

    assert status_of(lambda: client.unload_model("iris"))[0] == "UNAUTHENTICATED"
    assert status_of(lambda: client.unload_model("iris", headers=CALLER))[0] == "PERMISSION_DENIED"
    client.unload_model("iris", headers=OWNER)
    assert not client.is_model_ready("iris", headers=CALLER)
    (entry,) = client.get_model_repository_index(headers=CALLER, as_json=True)["models"]
    assert (entry["name"], entry["state"]) == ("iris", "UNAVAILABLE")
    client.load_model("iris", headers=OWNER)
    assert client.is_model_ready("iris", headers=CALLER)


def test_values_may_stand_in_typed_contents_and_texts_and_halves_go_both_ways(
    open_server: tuple[Server, str], connect: Callable[[str], Any], tmp_path: Path
) -> None:
    server, url = open_server
    for name, datatype in (("texts", "STRING"), ("halves", "FLOAT16"), ("floats", "FLOAT")):
        server.deploy(identity(tmp_path, name, datatype), model_name=name)
    client = connect(url)
    texts = np.array(["a", "Øl", ""], dtype=object)
    halves = np.array([0.5, -2.0, 65504.0], dtype=np.float16)

    answer = client.infer("texts", [tensor("x", texts, "BYTES")], outputs=[triton.InferRequestedOutput("y")])
    assert [each.decode() for each in answer.as_numpy("y")] == list(texts)
    assert client.infer("halves", [tensor("x", halves, "FP16")]).as_numpy("y").tolist() == halves.tolist()
    assert answered_typed(url, "floats", [1.5, -2.25]) == [1.5, -2.25]


def answered_typed(url: str, model: str, values: list[float]) -> list[float]:
    """Through a plain stub, as a client writes it that fills in `contents`."""
    request = service_pb2.ModelInferRequest(model_name=model)
    given = request.inputs.add(name="x", datatype="FP32", shape=[len(values)])
    given.contents.fp32_contents.extend(values)
    with grpc.insecure_channel(url) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        answer, call = infer.with_call(request, timeout=30)
    assert dict(call.trailing_metadata())["x-model-version"] == "1.0.0"
    found: list[float] = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
    return found


def identity(folder: Path, name: str, datatype: str) -> Path:
    """An ONNX model that answers what it is given."""
    import onnx

    kind = getattr(onnx.TensorProto, datatype)
    x, y = (onnx.helper.make_tensor_value_info(each, kind, [None]) for each in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], name, [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def test_a_port_that_is_taken_is_one_line_and_no_port_loads_no_grpc(start_server: StartServer, tmp_path: Path) -> None:
    _, url = with_grpc(start_server)
    server = Server(tmp_path, tmp_path, PRISM_GRPC_PORT=url.rpartition(":")[2])

    ended = subprocess.run(
        [sys.executable, "-m", "app.serve"],
        cwd=CHECKOUT,
        env=server.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 1
    assert "Choose another PRISM_GRPC_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr

    code = "import sys, app.main; sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0


def test_statistics_and_configuration_are_those_of_rest(
    open_server: tuple[Server, str], connect: Callable[[str], Any], iris_file: Path
) -> None:
    server, url = open_server
    server.deploy(iris_file, model_name="other")
    client = connect(url)
    for count in (1, 2, 3):
        client.infer("iris", columns(count))

    (over_rest,) = server.http.get("/v2/models/iris/stats").json()["model_stats"]
    (over_grpc,) = client.get_inference_statistics("iris").model_stats
    assert (over_grpc.name, over_grpc.version) == ("iris", "1.0.0")
    assert over_grpc.inference_count == over_rest["inference_count"] >= 3
    assert over_grpc.execution_count == over_rest["execution_count"]
    assert over_grpc.last_inference > 0
    success = over_rest["inference_stats"]["success"]
    told = over_grpc.inference_stats.success
    assert (told.count, told.ns) == (success["count"], success["ns"])
    assert {one.name for one in client.get_inference_statistics().model_stats} == {"iris", "other"}
    assert len(client.get_inference_statistics("iris", "1.0.0").model_stats) == 1

    over_rest = server.http.get("/v2/models/iris/config").json()
    config = client.get_model_config("iris").config
    assert (config.name, config.platform, config.backend) == ("iris", over_rest["platform"], "prism")
    assert [one.name for one in config.input] == [one["name"] for one in over_rest["input"]]
    assert {one.data_type for one in config.input} == {model_config_pb2.TYPE_FP64}
    assert [list(one.dims) for one in config.output] == [one["dims"] for one in over_rest["output"]]
    assert config.dynamic_batching.preferred_batch_size == [64]
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert status_of(lambda: client.get_model_config("nothing"))[0] == "NOT_FOUND"
    assert status_of(lambda: client.get_inference_statistics("iris", "9.9.9"))[0] == "NOT_FOUND"


def test_an_asynchronous_client_learns_the_same(open_server: tuple[Server, str]) -> None:
    _, url = open_server

    async def ask() -> tuple[Any, Any, Any, Any]:
        async with triton_aio.InferenceServerClient(url) as client:
            await client.infer("iris", columns(1))
            return (
                await client.get_inference_statistics("iris"),
                await client.get_model_config("iris"),
                await client.get_server_metadata(),
                await client.get_model_repository_index(),
            )

    statistics, config, server_metadata, index = asyncio.run(ask())
    assert statistics.model_stats[0].inference_count >= 1
    assert config.config.name == "iris"
    assert {"model_configuration", "statistics"} <= set(server_metadata.extensions)
    assert [(one.name, one.state) for one in index.models] == [("iris", "READY")]


def test_a_stream_answers_each_request_in_turn_and_an_error_ends_nothing(
    open_server: tuple[Server, str], connect: Callable[[str], Any], iris_file: Path
) -> None:
    _, url = open_server
    client = connect(url)
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    client.async_stream_infer("iris", columns(2), request_id="first")
    client.async_stream_infer("nothing", columns(1), request_id="second")
    client.async_stream_infer("iris", columns(3), request_id="third")
    first, second, third = (answers.get(timeout=60) for _ in range(3))
    client.stop_stream()

    name = first[0].get_response().outputs[0].name
    assert [text.decode() for text in first[0].as_numpy(name).ravel()] == expected(iris_file, 2)
    assert first[0].get_response().id == "first"
    assert "There is no model `nothing`" in str(second[1])
    assert [text.decode() for text in third[0].as_numpy(name).ravel()] == expected(iris_file, 3)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda client: client.get_system_shared_memory_status(), "send tensors in the request"),
        (lambda client: client.register_system_shared_memory("a", "/a", 8), "send tensors in the request"),
        (lambda client: client.get_cuda_shared_memory_status(), "send tensors in the request"),
        (lambda client: client.get_trace_settings(), "Tracing is not supported"),
        (lambda client: client.update_trace_settings(settings={"trace_rate": "1"}), "Tracing is not supported"),
        (lambda client: client.get_log_settings(), "PRISM_LOG_LEVEL"),
        (lambda client: client.update_log_settings({"log_info": True}), "PRISM_LOG_LEVEL"),
    ],
)
def test_what_is_not_offered_says_so(no_models: str, connect: Callable[[str], Any], ask: Any, words: str) -> None:
    code, text = status_of(lambda: ask(connect(no_models)))
    assert code == "UNIMPLEMENTED"
    assert "This server has no method" in text
    assert words in text


def test_the_port_is_told_by_the_health_and_the_command_line(start_server: StartServer) -> None:
    server, url = with_grpc(start_server)
    port = int(url.rpartition(":")[2])
    assert server.http.get("/health").json()["grpc_port"] == port
    told = subprocess.run(
        [sys.executable, "-m", "prism.cli", "status"], cwd=CHECKOUT, env=server.environ, capture_output=True, text=True
    )
    assert f"gRPC on port {port}" in told.stdout
    assert start_server(PRISM_TARGET="process").http.get("/health").json()["grpc_port"] is None


def test_bytes_that_are_no_message_are_the_senders_fault(no_models: str) -> None:
    with grpc.insecure_channel(no_models) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, bytes)
        with pytest.raises(grpc.RpcError) as refused:
            infer(b"\xff\xff\xff", timeout=30)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ModelInferRequest" in refused.value.details()
