"""The dialects that a gateway and an image without one have in common: the same cases, asked of both by the same clients.

An image has one model and any name for it; so each case asks one model and takes its address with it.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import joblib
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from model_container.contract.config import VARIABLE, RuntimeConfig
from tests.acceptance.raw import BINARIES, BODIES, ENCODINGS, GOOD, TYPES, Line, Sent
from tests.acceptance.served import ROWS, SPECIES, bf16_graph, passing_graph, serving
from tests.acceptance.server import free_port, wait_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

PROGRAM = Path(__file__).parents[2] / "model_container" / "__main__.py"
FRAME = pd.DataFrame({"age": [22.0, 38, np.nan, 35], "port": ["S", "C", "S", "Q"], "fare": [7.25, 71.3, 7.9, 53.1]})
FORMATS = {"iris": "joblib", "titanic": "joblib", "passing": "onnx", "bf16": "onnx"}


class Place(NamedTuple):
    """Where a model answers, by the name `name`."""

    name: str
    port: int

    def post(self, path: str, **options: Any) -> httpx2.Response:
        with httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False) as http:
            return http.post(path, **options)

    def triton(self) -> Any:
        return InferenceServerClient(f"127.0.0.1:{self.port}", concurrency=4)


At = Callable[[str], Place]


@pytest.fixture(scope="module")
def titanic() -> Any:
    """A pipeline that takes columns of numbers, some missing, and of strings."""
    columns = make_column_transformer((SimpleImputer(), ["age", "fare"]), (OneHotEncoder(), ["port"]))
    return make_pipeline(columns, LogisticRegression()).fit(pd.concat([FRAME] * 5), ["no", "yes", "no", "yes"] * 5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, iris_file: Path, titanic: Any) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    joblib.dump(titanic, folder / "titanic.joblib")
    return {
        "iris": iris_file,
        "titanic": folder / "titanic.joblib",
        "passing": passing_graph(folder / "passing.onnx"),
        "bf16": bf16_graph(folder / "bf16.onnx"),
    }


@pytest.fixture(scope="module", params=["gateway", "alone", pytest.param("image", marks=pytest.mark.docker)])
def at(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    environments: Path,
    files: dict[str, Path],
) -> Iterator[At]:
    """gateway: all models in one. alone: a runtime as an image's entry point starts it. image: a container each."""
    with ExitStack() as started:
        if request.param == "alone":
            places = {name: started.enter_context(runtime(file, FORMATS[name], name)) for name, file in files.items()}
            yield places.__getitem__
            return
        target = "docker" if request.param == "image" else "process"
        server = started.enter_context(serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET=target))
        models = {name: server.deploy(file, model_name=name)["model_id"] for name, file in files.items()}
        if request.param == "gateway":
            yield lambda name: Place(name, server.port)
            return
        yield {name: started.enter_context(container(model_id, name)) for name, model_id in models.items()}.__getitem__


class runtime:
    """A runtime that nobody but its clients knows."""

    def __init__(self, file: Path, kind: str, name: str) -> None:
        self._place = Place(name, free_port())
        self._config = RuntimeConfig(artifact=str(file), format=kind, port=self._place.port)

    def __enter__(self) -> Place:
        environ = {**os.environ, VARIABLE: self._config.to_json()}
        self._process = subprocess.Popen([sys.executable, "-B", str(PROGRAM)], env=environ, stderr=subprocess.DEVNULL)
        wait_for(lambda: answers(self._place), 60, "the runtime's start")
        return self._place

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


class container:
    """The image of a model, run with nothing but a port."""

    def __init__(self, model_id: str, name: str) -> None:
        self._place = Place(name, free_port())
        self._image = f"prism_model_{model_id}"

    def __enter__(self) -> Place:
        run = ["docker", "run", "--detach", "--rm", "--publish", f"127.0.0.1:{self._place.port}:8080", self._image]
        self._id = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
        wait_for(lambda: answers(self._place), 60, "the container's start")
        return self._place

    def __exit__(self, *_: object) -> None:
        subprocess.run(["docker", "rm", "--force", self._id], check=True, capture_output=True)


def answers(place: Place) -> bool:
    try:
        with httpx2.Client(timeout=5, trust_env=False) as http:
            return http.get(f"http://127.0.0.1:{place.port}/ping").status_code == 200
    except httpx2.TransportError:
        return False


def sent(name: str, array: Any, *, binary: bool = True) -> InferInput:
    one = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return one.set_data_from_numpy(array, binary_data=binary)


def texts(result: Any, name: str) -> list[Any]:
    return [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy(name).ravel()]


# Open Inference Protocol V2 ----------------------------------------------------------------------------------------------


def test_v2_is_live_and_ready(at: At) -> None:
    with at("iris").triton() as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("iris")
        assert client.is_model_ready("iris", "1.0.0")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]


def test_v2_metadata_say_how_to_ask(at: At) -> None:
    with at("passing").triton() as client:
        said = client.get_model_metadata("passing")
    assert said["name"] == "passing"
    assert said["versions"]
    assert said["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1, 2]},
        {"name": "half", "datatype": "FP16", "shape": [-1, 2]},
        {"name": "count", "datatype": "INT64", "shape": [-1, 2]},
    ]
    assert [one["name"] for one in said["outputs"]] == ["text_out", "half_out", "count_out"]


@pytest.mark.parametrize("binary", [True, False])
def test_v2_answers_what_the_metadata_say(at: At, binary: bool) -> None:
    with at("iris").triton() as client:
        names = [one["name"] for one in client.get_model_metadata("iris")["inputs"]]
        inputs = [sent(name, np.ascontiguousarray(ROWS[:, place]), binary=binary) for place, name in enumerate(names)]
        outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "predictions")]
        result = client.infer("iris", inputs, outputs=outputs, request_id="mine", model_version="1.0.0")
    assert texts(result, "predictions") == SPECIES
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 2]
    said = result.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "iris", "1.0.0")
    assert [one["name"] for one in said["outputs"]] == ["probabilities", "predictions"]


@pytest.mark.parametrize("binary", [True, False])
def test_v2_passes_tensors_of_each_kind_unchanged(at: At, binary: bool) -> None:
    given = {
        "text": np.array([["für", ""], ["a\nb", '"']], dtype=object),
        "half": np.array([[1.5, -2], [0.1, 6e4]], dtype=np.float16),
        "count": np.array([[2**63 - 1, 0], [-(2**63), 7]]),
    }
    outputs = [InferRequestedOutput(f"{name}_out", binary_data=binary) for name in given]
    with at("passing").triton() as client:
        inputs = [sent(name, each, binary=binary) for name, each in given.items()]
        result = client.infer("passing", inputs, outputs=outputs)
    assert texts(result, "text_out") == given["text"].ravel().tolist()
    for name in ("half", "count"):
        back = result.as_numpy(f"{name}_out")
        assert back.dtype == given[name].dtype
        np.testing.assert_array_equal(back, given[name])


def test_v2_passes_bfloat16_unchanged(at: At) -> None:
    given = np.array([[1.5, -3e38], [0.1, 0]], dtype=ml_dtypes.bfloat16)
    with at("bf16").triton() as client:
        np.testing.assert_array_equal(client.infer("bf16", [sent("x", given)]).as_numpy("y"), given)


@pytest.mark.parametrize("packed_in", ["gzip", "deflate", None])
@pytest.mark.parametrize("packed_out", ["gzip", "deflate", None])
def test_v2_takes_bodies_compressed_and_offers_to_compress(
    at: At, packed_in: str | None, packed_out: str | None
) -> None:
    rows = np.tile(ROWS, (300, 1))
    with at("iris").triton() as client:
        for binary in (True, False):
            result = client.infer(
                "iris",
                [sent("rows", rows, binary=binary)],
                outputs=[InferRequestedOutput("predictions", binary_data=binary)],
                request_compression_algorithm=packed_in,
                response_compression_algorithm=packed_out,
            )
            assert texts(result, "predictions") == SPECIES * 300


def test_v2_takes_several_requests_at_once(at: At) -> None:
    with at("iris").triton() as client:
        asked = [client.async_infer("iris", [sent("rows", ROWS)], request_id=str(number)) for number in range(12)]
        for number, one in enumerate(asked):
            result = one.get_result()
            assert result.get_response()["id"] == str(number)
            assert texts(result, "predictions") == SPECIES


def test_v2_tells_errors_in_its_form(at: At) -> None:
    with at("iris").triton() as client:
        with pytest.raises(InferenceServerException) as raised:
            client.infer("iris", [sent("rows", ROWS[:, :3])])
        assert raised.value.status() == "422"
        assert "4" in raised.value.message()
        with pytest.raises(InferenceServerException, match="classification"):
            client.infer("iris", [sent("rows", ROWS)], outputs=[InferRequestedOutput("predictions", class_count=2)])
    for body in (b"{", b"{}", b'{"inputs": []}'):
        answer = at("iris").post("/v2/models/iris/infer", content=body)
        assert (400 <= answer.status_code < 500, answer.json().keys()) == (True, {"error"})


# KServe V1 ---------------------------------------------------------------------------------------------------------------


def test_v1_turns_instances_into_predictions(at: At) -> None:
    place = at("iris")
    assert place.post("/v1/models/iris:predict", json={"instances": ROWS.tolist()}).json() == {"predictions": SPECIES}
    answer = place.post("/v1/models/iris:predict", json={"instances": ROWS[:1].tolist(), "parameters": {"any": 1}})
    assert answer.json() == {"predictions": SPECIES[:1]}


def test_v1_turns_named_inputs_into_predictions_by_name(at: At) -> None:
    inputs = {"text": [["a", "b"]], "half": [[0.5, 1]], "count": [[1, 2]]}
    answer = at("passing").post("/v1/models/passing:predict", json={"inputs": inputs})
    assert answer.json() == {"predictions": [{f"{name}_out": rows[0] for name, rows in inputs.items()}]}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/iris:predict", {"instances": [[1]]}, 422),
        ("/v1/models/iris:predict", {"features": [[1]]}, 422),
        ("/v1/models/iris", {}, 405),
    ],
)
def test_v1_tells_errors_in_its_form(at: At, path: str, body: object, status: int) -> None:
    answer = at("iris").post(path, json=body)
    assert (answer.status_code, answer.json().keys()) == (status, {"error"})


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_v1_takes_compressed_bodies(at: At, encoding: str, encode: Callable[[bytes], bytes]) -> None:
    body = encode(json.dumps({"instances": ROWS.tolist()}).encode())
    answer = at("iris").post("/v1/models/iris:predict", content=body, headers={"Content-Encoding": encoding})
    assert answer.json() == {"predictions": SPECIES}


# MLflow ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def invocations(at: At, request: pytest.FixtureRequest) -> str:
    """A gateway with several models wants to hear which; its own route says so."""
    return "/models/titanic/invocations" if request.node.callspec.params["at"] == "gateway" else "/invocations"


def test_mlflow_answers_a_dataframe_as_the_model_does(at: At, invocations: str, titanic: Any) -> None:
    wanted = titanic.predict(FRAME).tolist()
    split = json.loads(FRAME.to_json(orient="split"))
    assert at("titanic").post(invocations, json={"dataframe_split": split}).json() == {"predictions": wanted}
    if invocations == "/invocations":
        client = ScoringServerClient("127.0.0.1", at("titanic").port)
        client.wait_server_ready(timeout=10)
        assert client.get_version()
        turned = FRAME[["fare", "port", "age"]]
        for frame, options in ((FRAME, {}), (turned, {"params": {"any": 1}})):
            assert client.invoke(frame, **options).get_predictions()[0].tolist() == wanted


def test_mlflow_answers_all_forms_of_its_json_alike(at: At, invocations: str, titanic: Any) -> None:
    frame = FRAME.fillna(30.0)
    for form in (
        {"dataframe_split": frame.to_dict(orient="split")},
        {"dataframe_records": frame.to_dict(orient="records")},
        {"instances": frame.to_dict(orient="records")},
        {"inputs": frame.to_dict(orient="list")},
    ):
        answer = at("titanic").post(invocations, json=form)
        assert answer.json() == {"predictions": titanic.predict(frame).tolist()}, form


@pytest.mark.parametrize("index", [True, False])
def test_mlflow_answers_a_table_as_text(at: At, invocations: str, titanic: Any, index: bool) -> None:
    content, headers = FRAME.to_csv(index=index).encode(), {"Content-Type": "text/csv"}
    answer = at("titanic").post(invocations, content=content, headers=headers)
    assert answer.json() == {"predictions": titanic.predict(FRAME).tolist()}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": {"age": [1], "port": ["S"]}}, "fare"),
        ({"rows": [[1]]}, "dataframe_split"),
        ({"inputs": [], "instances": []}, "only one"),
    ],
)
def test_mlflow_tells_errors_in_its_form(at: At, invocations: str, body: object, words: str) -> None:
    answer = at("titanic").post(invocations, json=body)
    assert answer.status_code == 422
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert words in answer.json()["message"]


# Whatever else comes -----------------------------------------------------------------------------------------------------


def test_no_body_makes_a_route_fail(at: At) -> None:
    paths = ("/v1/models/iris:predict", "/v2/models/iris/infer", "/invocations")
    asked = [Sent(path, body) for path in paths for body in BODIES]
    asked += [one._replace(headers=((b"Content-Type", kind),)) for one in GOOD if one.path in paths for kind in TYPES]
    asked += [
        Sent(one.path, encode(one.body), ((b"Content-Encoding", how),))
        for one in GOOD
        if one.path in paths
        for how, encode in ENCODINGS
    ]
    for one in (*asked, *BINARIES):
        with Line(at("iris").port) as line:
            answer = line.ask(one)
        assert answer is not None, one
        assert 200 <= answer[0] < 500, (one, answer)
    assert at("iris").post("/v1/models/iris:predict", json={"instances": ROWS.tolist()}).json() == {
        "predictions": SPECIES
    }


def test_many_clients_are_answered_at_once(at: At) -> None:
    def one(number: int) -> Any:
        row = ROWS[number % 2].tolist()
        return at("iris").post("/v1/models/iris:predict", json={"instances": [row]}).json()["predictions"][0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(64))) == SPECIES * 32
