"""Each kind of bad input has its own clear error, and nothing is left behind."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.server import Server, problem


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory, environments: Path, iris_file: Path) -> Server:
    """One server for all refusals: none of them may change it."""
    server = Server(
        tmp_path_factory.mktemp("home"),
        environments,
        PRISM_TARGET="process",
        PRISM_MAX_UPLOAD_MB=4,
        PRISM_MAX_BODY_MB=1,
    )
    server.start()
    server.deploy(iris_file, model_name="iris")
    yield server  # type: ignore[misc]
    server.stop()


def file(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def dumped_by(code: str) -> bytes:
    """The bytes that a script of its own, as `__main__`, writes to its output."""
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout


HOME_MADE = """
import pickle, sys
class Doubler:
    def predict(self, rows): return [2 * row[0] for row in rows]
sys.stdout.buffer.write(pickle.dumps(Doubler()))
"""


def zipped(content: bytes) -> bytes:
    """An archive with one file that PRISM does not serve."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("notes.txt", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "status", "said"),
    [
        ("model.pkl", b"", 400, "empty"),
        ("model.onnx", b"<!DOCTYPE html><html><body>Not found</body></html>", 415, "HTML"),
        ("model.pkl", b'{"a": 1}', 415, "JSON"),
        ("model.pkl", zipped(b"no model"), 415, "notes.txt"),
        ("model.pkl", zipped(b"no model")[:-10], 422, "zip"),
        ("model.txt", b"hello, this is no model\n", 415, ""),
        ("model.pkl", pickle.dumps({"a": list(range(1000))})[:-200], 422, "byte"),
        ("model.joblib", gzip.compress(pickle.dumps(list(range(1000))), mtime=0)[:-20], 422, "gzip"),
    ],
    ids=["empty", "html", "json", "zip", "truncated zip", "text", "truncated", "truncated gzip"],
)
def test_a_file_that_is_no_model_is_refused(
    module_server: Server, tmp_path: Path, name: str, content: bytes, status: int, said: str
) -> None:
    before = set((module_server.home / "model_store" / "uploads").iterdir())
    answer = module_server.upload(file(tmp_path, name, content))
    assert answer.status_code == status, answer.text
    document = problem(answer)
    assert said in document["detail"] + document.get("hint", "")
    assert set((module_server.home / "model_store" / "uploads").iterdir()) == before
    assert len(module_server.http.get("/models").json()["models"]) == 1


def test_a_truncated_model_is_refused_wherever_it_ends(module_server: Server, tmp_path: Path, iris_file: Path) -> None:
    whole = iris_file.read_bytes()
    for cut in (10, len(whole) // 3, len(whole) - 1):
        assert module_server.upload(file(tmp_path, "cut.joblib", whole[:cut])).status_code in (415, 422)


def test_a_file_over_the_limit_is_refused(module_server: Server, tmp_path: Path) -> None:
    document = problem(module_server.upload(file(tmp_path, "big.pkl", bytes(5 << 20))))
    assert document["status"] == 413
    assert "PRISM_MAX_UPLOAD_MB" in document["hint"]


def test_classes_of_the_training_script_are_named_and_may_be_supplied(
    module_server: Server, tmp_path: Path, start_server: StartServer
) -> None:
    path = file(tmp_path, "doubler.pkl", dumped_by(HOME_MADE))
    document = problem(module_server.upload(path))
    assert document["code"] == "missing_code"
    assert "Doubler" in document["detail"]
    assert "`--code`" in document["detail"]
    assert document["field"] == "code_files"
    server = start_server(PRISM_TARGET="process")
    code = HOME_MADE.split("sys.stdout")[0].encode()
    answer = server.upload(path, code={"doubler.py": code}, model_name="doubler", expected_input_json="[[1]]")
    assert answer.status_code == 201, answer.text
    assert server.predict("doubler", [[4], [5]]).json()["predictions"] == [8, 10]


class RunsOnLoad:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> object:
        return os.system, (self.command,)


def test_a_class_of_an_unknown_package_is_missing_code_and_nothing_is_asked_of_the_index(
    module_server: Server, tmp_path: Path
) -> None:
    path = file(tmp_path, "evil.pkl", b"\x80\x02cevilpkg\nModel\n)\x81.")
    for fields in ({}, {"allow_unsafe": "true"}, {"allow_packages": "another"}, {"requirements": "another"}):
        document = problem(module_server.upload(path, **fields))
        assert (document["code"], document["missing"]) == ("missing_code", ["evilpkg"])
        assert "send evilpkg.py with `--code`" in document["detail"]
        assert "`--allow-package evilpkg`" in document["hint"]
    assert problem(module_server.upload(path, allow_packages="evilpkg==1"))["field"] == "allow_packages"
    assert "evilpkg" not in module_server.log()


@pytest.mark.parametrize(
    "content",
    [b"\x80\x04X\x07\x00\x00\x00acme\xed\xa0\x80X\x05\x00\x00\x00Model\x93.", b"V\\ud800\n0cacme\nModel\n."],
)
def test_half_a_character_in_a_name_is_refused_like_any_name(
    module_server: Server, tmp_path: Path, content: bytes
) -> None:
    path = file(tmp_path, "half.pkl", content)
    assert problem(module_server.upload(path))["code"] == "missing_code"
    inspected = module_server.http.post("/models/inspect", files={"file": ("half.pkl", content)})
    assert inspected.status_code < 300
    assert [refusal["code"] for refusal in inspected.json()["refusals"]] == ["missing_code", "unsafe_artifact"]


def test_a_malicious_pickle_runs_nothing_in_the_gateway(module_server: Server, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = file(tmp_path, "evil.pkl", pickle.dumps(RunsOnLoad(f"touch {mark}")))
    document = problem(module_server.upload(path))
    assert document["code"] == "unsafe_artifact"
    assert "system" in document["detail"]
    assert "allow_unsafe" in document["hint"]
    assert not mark.exists()
    answer = module_server.upload(path, allow_unsafe="true", model_name="evil")
    assert answer.status_code == 422, "with consent it is loaded, in its sandbox, and is not a model"
    evil = module_server.model("evil")
    assert evil["unsafe_consent"]
    assert not mark.exists(), "its command cannot write outside its own folder"
    module_server.http.delete("/models/evil")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_name": "a/b"}, "'/'"),
        ({"expected_input_json": "{"}, "not JSON"),
        ({"target": "moon"}, "no target `moon`"),
        ({"allow_unsafe": "perhaps"}, "not true or false"),
        ({"python_version": "four"}, "four"),
        ({"requirements": "scikit-learn=1.0"}, "scikit-learn=1.0"),
        ({"requirments": "scikit-learn"}, "`requirements`"),
    ],
)
def test_a_wrong_field_of_the_form_is_named(
    module_server: Server, iris_file: Path, fields: dict[str, str], said: str
) -> None:
    answer = module_server.upload(iris_file, **fields)
    document = problem(answer)
    assert document["status"] == 400
    assert said in document["detail"] + document.get("hint", "")


def test_requirements_that_no_index_has_fail_with_the_reason(module_server: Server, iris_file: Path) -> None:
    answer = module_server.upload(iris_file, model_name="impossible", requirements="scikit-learn==0.0.1")
    document = problem(answer)
    assert document["code"] == "environment_failed"
    assert "0.0.1" in document["detail"]
    assert module_server.model("impossible")["status"] == "failed"
    module_server.http.delete("/models/impossible")


SHORT = {name: value for name, value in ROW.items() if name != "petal width (cm)"}
MISSPELT = {**SHORT, "petal widht (cm)": 0.2}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b"not json", 400, "JSON"),
        (b'{"a": 1', 400, "JSON"),
        (b"[" * 100_000, 400, "nest"),
        (b"\xff\xfe", 400, ""),
        (SHORT, 422, "petal width (cm)"),
        (MISSPELT, 422, "petal widht (cm)"),
        ({"features": [[1, 2, 3, 4, 5]]}, 422, "5"),
        ({"features": [[1, 2, 3, 4], [1, 2]]}, 422, ""),
        ({"features": []}, 422, ""),
        ({**ROW, "petal width (cm)": "wide"}, 422, "wide"),
        ({**ROW, "petal width (cm)": None}, 422, "NaN"),
        (b'{"features": [[NaN, 1, 1, 1]]}', 400, "JSON"),
        (b'{"features": [[1e400, 1, 1, 1]]}', (400, 422), ""),
        (b'{"features": [[1' + b"0" * 400 + b", 1, 1, 1]]}", (400, 422), ""),
        ({"inputs": [{"name": "X", "shape": [2, 4], "datatype": "FP64", "data": [1, 2, 3]}]}, 422, ""),
        ({"features": [[1, 2, 3, 4]], "instances": [[1, 2, 3, 4]]}, 422, ""),
        ("just a string", 422, ""),
        (b"null", 422, ""),
    ],
)
def test_a_prediction_that_does_not_fit_says_what_is_wrong(
    module_server: Server, body: object, status: int | tuple[int, ...], said: str
) -> None:
    if isinstance(body, bytes):
        headers = {"Content-Type": "application/json"}
        answer = module_server.http.post("/models/iris/predict", content=body, headers=headers)
    else:
        answer = module_server.predict("iris", body)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text
    assert said in problem(answer)["detail"]
    assert module_server.predict("iris", ROW).json()["predictions"] == ["setosa"]


@pytest.mark.parametrize("content_type", ["text/html", "multipart/form-data", "application/x-www-form-urlencoded"])
def test_a_wrong_content_type_is_named_with_the_right_one(module_server: Server, content_type: str) -> None:
    answer = module_server.http.post("/models/iris/predict", content=b"{}", headers={"Content-Type": content_type})
    document = problem(answer)
    assert document["status"] == 415
    assert content_type in document["detail"]
    assert "application/json" in document["hint"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(module_server: Server) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", module_server.port), 30) as raw:
        raw.sendall(
            b"POST /models/iris/predict HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert raw.recv(64).startswith(b"HTTP/1.1 413 ")


def test_unknown_models_routes_and_methods_are_problems_too(module_server: Server) -> None:
    assert "Did you mean `iris`?" in problem(module_server.predict("irsi", ROW))["hint"]
    assert problem(module_server.http.get("/models/nope"))["status"] == 404
    assert problem(module_server.http.get("/nothing/here"))["status"] == 404
    assert problem(module_server.http.delete("/health"))["status"] == 405
    assert problem(module_server.http.get("/models/iris/logs?tail=many"))["status"] == 400
