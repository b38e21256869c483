"""The models folder: what lies in it is served and followed, and what is broken in it harms nothing else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.models_folder_lab import put
from tests.acceptance.replica_models import Callers
from tests.acceptance.server import CHECKOUT, Server, wait_for

pytestmark = pytest.mark.slow

IRIS = CHECKOUT / "model_store" / "samples" / "iris"
ROW = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
SECONDS = 120
"""For an environment that is built for the first time."""


def model_py(value: str) -> str:
    return f"class Model:\n    def predict(self, rows):\n        return [{value} for row in rows]\n"


class Home:
    """A server and its models folder."""

    def __init__(self, start: StartServer, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.server: Server = start(
            PRISM_TARGET="process", PRISM_MODELS_DIR=folder, PRISM_MODELS_DIR_INTERVAL_SECONDS=0.1, **settings
        )

    def document(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.server.http.get("/models-folder").json()
        return answer

    def entry(self, name: str) -> dict[str, Any]:
        return next((one for one in self.document()["entries"] if one["name"] == name), {})

    def state(self, name: str) -> str:
        return str(self.entry(name).get("state", ""))

    def becomes(self, name: str, state: str) -> dict[str, Any]:
        wait_for(lambda: self.state(name) == state, SECONDS, f"{name} {state} ({self.document()})")
        return self.entry(name)

    def answer(self, name: str, body: object) -> Any:
        answer = self.server.predict(name, body)
        return answer.json()["predictions"] if answer.status_code == 200 else answer.status_code

    def answers(self, name: str, body: object, wanted: object) -> None:
        wait_for(lambda: self.answer(name, body) == wanted, SECONDS, f"{name} answers {wanted}")


@pytest.fixture
def home(start_server: StartServer, tmp_path: Path) -> Callable[..., Home]:
    (tmp_path / "models").mkdir()
    return lambda **settings: Home(start_server, tmp_path / "models", **settings)


def test_entries_are_served_at_start_side_by_side(home: Callable[..., Home], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    put(folder, "iris", iris_joblib=IRIS / "iris.joblib", train_py="raise SystemExit('it must not run')\n")
    put(folder, "flowers", iris_onnx=IRIS / "iris.onnx")
    put(folder, "seven", model_py=model_py("7"))
    here = home()
    for name in ("iris", "flowers", "seven"):
        assert here.becomes(name, "live")["serving"] == f"{name}@1.0.0"
    assert here.answer("iris", ROW) == ["virginica"]
    assert here.answer("flowers", ROW) == ["virginica"]
    assert here.answer("seven", {"features": [[1], [2]]}) == [7, 7]
    uploaded = here.server.deploy(IRIS / "iris.joblib", model_name="uploaded")
    assert [here.state(name) for name in ("iris", "flowers", "seven")] == ["live"] * 3
    assert uploaded["status"] == "live"
    assert here.server.deploy(IRIS / "iris.onnx", model_name="another")["status"] == "live"
    assert here.server.model("uploaded")["status"] == "stopped"
    assert here.answer("seven", {"features": [[1]]}) == [7]


def test_add_change_and_remove_take_effect_without_a_failed_request(home: Callable[..., Home], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    put(folder, "steady", model_py=model_py("1"))
    here = home()
    here.becomes("steady", "live")
    with Callers(here.server, "steady") as callers:
        put(folder, "added", model_py=model_py("'new'"))
        here.answers("added", [[1]], ["new"])
        put(folder, "steady", model_py=model_py("2"))
        here.answers("steady", [[1]], [2])
        assert here.becomes("steady", "live")["ref"] == "steady@1.1.0"
        shutil.rmtree(folder / "added")
        here.answers("added", [[1]], 404)
        wait_for(lambda: callers.answers.keys() >= {"1", "2"} and callers.count > 50, 30, "both versions answer")
    assert not callers.failures
    assert callers.count > 50
    assert [model["ref"] for model in here.server.http.get("/models").json()["models"]] == [
        "steady@1.0.0",
        "steady@1.1.0",
    ]


BROKEN = {
    "misspelt": ({"model_py": model_py("1"), "model_config_yaml": "batch_sise: 3"}, "Did you mean `max_batch_size`?"),
    "mistyped": ({"model_py": model_py("1"), "model_config_yaml": "queue_length: many"}, 'queue_length: "many"'),
    "no-yaml": ({"model_py": model_py("1"), "model_config_yaml": "a: [1"}, "line 1"),
    "empty": ({}, "holds no model"),
    "two": ({"a_joblib": IRIS / "iris.joblib", "b_joblib": IRIS / "iris.joblib"}, "2 model files"),
    "torn": ({"a_pkl": "\x80"}, "a.pkl"),
    "no@name": ({"model_py": model_py("1")}, "contains '@'"),
    "no-framework": ({"a_joblib": IRIS / "iris.joblib", "model_config_yaml": "framework: onnx"}, "framework: onnx"),
    "no-replica": ({"model_py": model_py("1"), "model_config_yaml": "replicas: 0"}, "replicas: 0"),
    "no-python": ({"model_py": model_py("1"), "model_config_yaml": "python_version: 3.2"}, "3.2"),
}


def test_a_broken_entry_is_told_and_takes_nothing_else_down(home: Callable[..., Home], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    put(folder, "good", model_py=model_py("1"))
    for name, (files, _) in BROKEN.items():
        put(folder, name, **files)  # type: ignore[arg-type]
    put(
        folder,
        "raises",
        model_py="class Model:\n    def load(self):\n        raise OSError('no weights here')\n    def predict(self, r): pass\n",
    )
    (folder / "link").mkdir()
    (folder / "link" / "model.pkl").symlink_to("/etc/passwd")
    (folder / "stray.pkl").write_bytes(b"x")
    here = home()
    here.becomes("good", "live")
    for name, (_, words) in BROKEN.items():
        error = here.becomes(name, "broken")["error"]
        assert words in f"{error['detail']} {error.get('hint', '')}", (name, error)
    assert "leads out of the models folder" in here.becomes("link", "broken")["error"]["detail"]
    assert "no weights here" in here.becomes("raises", "failed")["error"]["detail"]
    assert [one["name"] for one in here.document()["ignored"]] == ["stray.pkl"]
    assert here.answer("good", [[1]]) == [1]
    page = here.server.http.get("/", headers={"Accept": "text/html"}).text
    assert "in the models folder is broken" in page
    stored = {path.name for path in (here.server.home / "model_store" / "uploads").iterdir()}
    assert stored == {here.entry(name)["model_id"] for name in ("good", "raises")}


def test_a_version_that_is_broken_leaves_the_one_before_it(home: Callable[..., Home], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    put(folder, "m", model_py=model_py("1"))
    here = home()
    here.becomes("m", "live")
    put(folder, "m", model_config_yaml="replica: 1")
    assert here.becomes("m", "broken")["serving"] == "m@1.0.0"
    assert here.answer("m", [[1]]) == [1]
    (folder / "m" / "model_config.yaml").unlink()
    here.becomes("m", "live")
    put(folder, "m", model_py="raise RuntimeError('broken')\nclass Model:\n    def predict(self, r): pass\n")
    assert here.becomes("m", "failed")["serving"] == "m@1.0.0"
    assert here.answer("m", [[1]]) == [1]
    put(folder, "m", model_py=model_py("3"))
    here.answers("m", [[1]], [3])


def test_a_restart_takes_up_what_changed_meanwhile(home: Callable[..., Home], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in ("same", "changed", "removed", "stopped"):
        put(folder, name, model_py=model_py("1"))
    here = home()
    for name in ("same", "changed", "removed", "stopped"):
        here.becomes(name, "live")
    here.server.deploy(IRIS / "iris.joblib", model_name="uploaded")
    same = here.entry("same")["model_id"]
    here.server.http.post("/models/stopped/stop")
    here.server.stop()
    put(folder, "changed", model_py=model_py("2"))
    put(folder, "new", model_py=model_py("5"))
    shutil.rmtree(folder / "removed")
    here.server.start()
    here.answers("changed", [[1]], [2])
    here.answers("new", [[1]], [5])
    here.answers("removed", [[1]], 404)
    assert here.becomes("same", "live")["model_id"] == same
    here.becomes("stopped", "stopped")
    here.answers("uploaded", ROW, ["virginica"])


def test_a_folder_that_is_not_there_stops_nothing(home: Callable[..., Home], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    put(folder, "m", model_py=model_py("1"))
    here = home()
    here.becomes("m", "live")
    folder.rename(tmp_path / "away")
    wait_for(lambda: bool(here.document()["problem"]), 10, "the folder is missed")
    assert here.answer("m", [[1]]) == [1]
    (tmp_path / "away").rename(folder)
    wait_for(lambda: not here.document()["problem"], 10, "the folder is back")
    assert here.state("m") == "live"
    assert here.entry("m")["ref"] == "m@1.0.0"


def test_what_the_configuration_says_is_kept_to(home: Callable[..., Home], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shares = "framework: sklearn\nmethod: predict_proba\ndescription: Shares of species\n"
    shares += "sample: {sepal_length: 6.3, sepal_width: 3.3, petal_length: 6.0, petal_width: 2.5}\n"
    put(folder, "shares", iris_joblib=IRIS / "iris.joblib", model_config_yaml=shares)
    slow = (
        "import time\nclass Model:\n    def predict(self, rows):\n        time.sleep(rows[0][0])\n        return rows\n"
    )
    put(folder, "slow", model_py=slow, model_config_yaml="predict_timeout_seconds: 3\nsample: [[0]]\n")
    put(folder, "full", model_py=slow, model_config_yaml="queue_length: 2\nmax_batch_size: 1\nsample: [[0]]\n")
    named = "inputs: {length: FP64, width: FP64}\nmax_batch_size: 7\n"
    code = "class Model:\n    def predict(self, inputs):\n        return inputs['length'] * inputs['width']\n"
    put(folder, "area", model_py=code, model_config_yaml=named)
    here = home()
    here.becomes("shares", "live")
    assert here.server.model("shares")["description"] == "Shares of species"
    assert here.server.model("shares")["sample"] == ROW
    (row,) = here.answer("shares", ROW)
    assert len(row) == 3
    assert row[2] > 0.9
    here.becomes("area", "live")
    assert here.answer("area", {"width": 3, "length": 2}) == [6.0]
    assert here.server.predict("area", {"width": 3, "lenght": 2}).json()["code"] == "wrong_columns"
    here.becomes("full", "live")
    statuses = in_parallel(here.server, "full", [[0.5]], 8)
    assert set(statuses) == {200, 503}, statuses
    here.becomes("slow", "live")
    late = here.server.predict("slow", [[10]])
    assert late.status_code == 504
    assert "within 3 s" in late.json()["detail"]


def in_parallel(server: Server, name: str, body: object, count: int) -> list[int]:
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(server.predict(name, body).status_code)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_a_new_number_of_replicas_takes_effect_without_a_new_version_and_without_a_failed_request(
    home: Callable[..., Home], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    config = "description: steady\nreplicas: {}\n"
    put(folder, "steady", model_py=model_py("1"), model_config_yaml=config.format(2))
    here = home()
    here.becomes("steady", "live")

    def numbers() -> list[int]:
        return [one["number"] for one in here.server.model("steady")["replicas"]]

    assert numbers() == [1, 2]
    with Callers(here.server, "steady") as callers:
        put(folder, "steady", model_config_yaml=config.format(3))
        wait_for(lambda: numbers() == [1, 2, 3], SECONDS, "a third replica")
        put(folder, "steady", model_config_yaml="description: steady\n")
        wait_for(lambda: numbers() == [1], SECONDS, "one replica")
    assert not callers.failures
    assert here.entry("steady")["ref"] == "steady@1.0.0"
    put(folder, "steady", model_config_yaml="replicas: 65")
    assert "replicas: 65" in here.becomes("steady", "broken")["error"]["detail"]
    assert here.answer("steady", [[1]]) == [1]
    put(folder, "steady", model_config_yaml="description: another\nreplicas: 2\n")
    here.becomes("steady", "live")
    wait_for(lambda: here.entry("steady")["ref"] == "steady@1.1.0", SECONDS, "a version of its own")
