"""GPUs as an owner asks for them, on a server whose engine has none, or that has no engine."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.runtime.docker.engine import engine_info
from app.runtime.docker.gpu import offered
from tests.acceptance.conftest import StartServer
from tests.acceptance.html_page import deploy_form, parse, reviewed, submit
from tests.acceptance.server import CHECKOUT, problem, wait_for


@pytest.mark.docker
def test_a_model_that_wants_a_gpu_fails_with_one_clear_error_where_the_engine_has_none(
    start_server: StartServer, iris_file: Path
) -> None:
    if offered(engine_info()):
        pytest.skip("this engine has a GPU")
    server = start_server(PRISM_TARGET="auto")

    told = problem(server.upload(iris_file, model_name="iris", gpu="true"))

    assert told["status"] == 422
    assert told["code"] == "start_failed"
    assert "The Docker engine has no GPU for `iris@1.0.0`" in told["detail"]
    assert "NVIDIA Container Toolkit" in told["hint"]
    assert "leave `gpu` out" in told["hint"]
    model = server.model("iris")
    assert (model["status"], model["target"], model["gpu"]) == ("failed", "docker", True)
    assert model["error"]["detail"] == told["detail"]
    assert "Traceback" not in server.log()
    assert server.upload(iris_file, model_name="iris").json()["gpu"] is False


@pytest.mark.docker
def test_the_upload_page_asks_for_gpus_and_says_what_is_wrong_beside_the_field(
    start_server: StartServer, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET="auto")
    form = deploy_form(reviewed(server, iris_file.name, iris_file.read_bytes()))

    refused = submit(server, form, model_name="iris", gpu="plenty")

    assert refused.status_code == 400
    again = deploy_form(parse(refused))
    field = again.one("input", id="gpu").attributes
    assert (field["value"], field["aria-invalid"]) == ("plenty", "true")
    assert "plenty" in again.one("div", id="gpu-wrong").text
    deployed = submit(server, again, gpu="2")
    assert deployed.status_code == 303
    assert server.model("iris")["gpu"] == 2


def test_the_upload_page_offers_no_gpu_where_no_container_could_have_it(
    module_server: StartServer, iris_file: Path
) -> None:
    server = module_server(PRISM_TARGET="process")
    shown = reviewed(server, iris_file.name, iris_file.read_bytes())
    assert shown.all("input", id="replicas")
    assert not shown.all("input", id="gpu")


def test_a_process_gets_no_gpu_and_says_so_before_anything_is_built(
    module_server: StartServer, iris_file: Path
) -> None:
    server = module_server(PRISM_TARGET="process")

    told = problem(server.upload(iris_file, gpu="true", target="process"))
    assert (told["status"], told["code"], told["field"]) == (400, "bad_input", "gpu")
    assert "docker" in told["detail"]

    told = problem(server.upload(iris_file, gpu="2"))
    assert (told["status"], told["code"]) == (503, "target_unavailable")
    assert "`docker`" in told["detail"]
    assert "`gpu` needs it" in told["detail"]

    told = problem(server.upload(iris_file, gpu="plenty"))
    assert (told["status"], told["field"]) == (400, "gpu")
    assert "`gpu` is `plenty`" in told["detail"]
    assert server.http.get("/models").json()["models"] == []


def test_execution_providers_are_for_onnx_models_and_reach_them(
    start_server: StartServer, iris_file: Path, tmp_path: Path
) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_MODEL_THREADS=2)
    cpu = "execution_providers: [CPUExecutionProvider]\n"

    told = problem(server.upload(packed(tmp_path / "iris.zip", iris_file, cpu)))
    assert (told["status"], told["field"]) == (400, "execution_providers")

    model = server.deploy(packed(tmp_path / "same.zip", identity(tmp_path), cpu), model_name="same")
    execution = {"execution_providers": ["CPUExecutionProvider"], "threads": 2, "joins_requests": True}
    assert model["runtime"]["execution"] == execution

    prefer = "threads: 3\nexecution_providers: [CUDAExecutionProvider, CPUExecutionProvider]\n"
    model = server.deploy(packed(tmp_path / "same.zip", identity(tmp_path), prefer), model_name="same")
    found = model["runtime"]["execution"]
    assert (found["execution_providers"], found["threads"]) == (["CPUExecutionProvider"], 3)
    assert "built without it" in found["passed_over"]["CUDAExecutionProvider"]

    insist = "execution_providers: [CUDAExecutionProvider]\n"
    told = problem(server.upload(packed(tmp_path / "same.zip", identity(tmp_path), insist), model_name="same"))
    assert told["code"] == "start_failed"
    assert "none of the execution providers CUDAExecutionProvider is in onnxruntime" in told["detail"]
    assert server.predict("same", {"features": [[1, 2]]}).json()["predictions"] == [[1, 2]]


def packed(path: Path, model: Path, config: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(model, model.name)
        archive.writestr("model_config.yaml", config)
    return path


def identity(folder: Path) -> Path:
    """An ONNX model that answers what it is given, two numbers a row."""
    import onnx

    x, y = (onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, ["n", 2]) for each in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "same.onnx"
    onnx.save(model, path)
    return path


def test_the_command_line_asks_for_a_gpu(module_server: StartServer, iris_file: Path) -> None:
    server = module_server(PRISM_TARGET="process")
    command = [sys.executable, "-m", "prism.cli", "push", str(iris_file), "--gpu", "--url", server.url]
    pushed = subprocess.run(command, cwd=CHECKOUT, env=server.environ, capture_output=True, text=True)
    assert pushed.returncode != 0
    assert "`gpu` needs it" in pushed.stderr
    assert "Traceback" not in pushed.stderr


def test_a_folder_that_wants_a_gpu_where_there_is_none_is_broken_and_the_others_serve(
    start_server: StartServer, iris_file: Path, tmp_path: Path
) -> None:
    for name, config in (("plain", ""), ("wishful", "gpu: true\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.joblib").write_bytes(iris_file.read_bytes())
        (tmp_path / name / "model_config.yaml").write_text(config)
    server = start_server(PRISM_TARGET="process", PRISM_MODELS_DIR=str(tmp_path), PRISM_MODELS_DIR_INTERVAL_SECONDS=0.2)

    def states() -> dict[str, str]:
        entries = server.http.get("/models-folder").json()["entries"]
        return {one["name"]: one["state"] for one in entries}

    wait_for(lambda: states() == {"plain": "live", "wishful": "broken"}, 120, "one is live and one is broken")
    entries = {one["name"]: one for one in server.http.get("/models-folder").json()["entries"]}
    assert "`gpu` needs it" in entries["wishful"]["error"]["detail"]
