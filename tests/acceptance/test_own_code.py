"""Models that need their owner's own code: whichever way it is sent, it is found, and no training script runs again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prism import Prism
from tests.acceptance.conftest import StartServer
from tests.acceptance.html_page import deploy_form, reviewed, submit
from tests.acceptance.server import CHECKOUT, Server, problem, wait_for

FEATURES = '''"""Features of the company."""

from src.numbers import FACTOR


class Tripler:
    def predict(self, rows):
        return [FACTOR * row[0] for row in rows]
'''
TRAIN = """
import os
import pickle

if "TRAINING" not in os.environ:
    raise SystemExit("the training script ran")

import acme_tracking  # what only the training needs

OFFSET = 10


def moved(value):
    return value + OFFSET


if __name__ == "__main__":

    class Mover:
        def predict(self, rows):
            return [moved(row[0]) for row in rows]

    with open("mover.pkl", "wb") as file:
        pickle.dump(Mover(), file)
"""
SAMPLE = "[[1]]"


@pytest.fixture
def here(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project as it lies on its owner's disk: models of a package, and of the script that trained one."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "features.py").write_text(FEATURES)
    (folder / "src" / "numbers.py").write_text("FACTOR = 3\n")
    (folder / "src" / "notes.txt").write_text("not code")
    (folder / "train.py").write_text(TRAIN)
    (folder / "acme_tracking.py").touch()
    save = "import pickle\nfrom src.features import Tripler\npickle.dump(Tripler(), open('tripler.pkl', 'wb'))\n"
    run(folder, "-c", save)
    run(folder, "train.py", TRAINING="1")
    return folder


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with this checkout's packages."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}", **environ},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_module_that_nobody_knows_is_told_as_missing_code_with_the_command(here: Server, project: Path) -> None:
    refused = problem(here.upload(project / "tripler.pkl"))
    assert (refused["code"], refused["missing"]) == ("missing_code", ["src"])
    assert refused["detail"] == (
        "The model imports `src`, which is not in the file: send the folder src with `--code`, or push the "
        "folder that holds the model and its code."
    )
    refused = problem(here.upload(project / "mover.pkl"))
    assert refused["missing"] == ["__main__.Mover"]
    assert "send that script with `--code`" in refused["detail"]


Send = Callable[[Server, Path, str, list[str]], None]


def by_command_line(here: Server, project: Path, model: str, code: list[str]) -> None:
    options = [word for each in code for word in ("--code", each)]
    command = ["-m", "prism.cli", "push", f"{model}.pkl", *options, "--expected-input", SAMPLE, "--url", here.url]
    told = run(project, *command).stdout
    assert "is live" in told
    assert ("Code of train.py: `Mover`, `moved` and what they use; the rest of the script does not run." in told) == (
        model == "mover"
    )


def by_sdk(here: Server, project: Path, model: str, code: list[str]) -> None:
    with Prism(here.url) as client:
        client.deploy(project / f"{model}.pkl", code_files=[project / each for each in code], expected_input=[[1]])


def by_curl(here: Server, project: Path, model: str, code: list[str]) -> None:
    files = [
        path for each in code for path in ([each] if each.endswith(".py") else ["src/features.py", "src/numbers.py"])
    ]
    parts = [word for each in files for word in ("-F", f"code_files=@{each};filename={each}")]
    command = ["curl", "-sS", "-F", f"file=@{model}.pkl", "-F", f"expected_input_json={SAMPLE}", *parts]
    done = subprocess.run([*command, f"{here.url}/models"], cwd=project, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["status"] == "live", done.stdout


def by_page(here: Server, project: Path, model: str, code: list[str]) -> None:
    """A browser sends the files of a folder with their paths, whatever they are."""
    places = [project / each for each in code]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()]
    shown = reviewed(here, f"{model}.pkl", (project / f"{model}.pkl").read_bytes())
    parts = [("code_files", str(path.relative_to(project)), path.read_bytes()) for path in files]
    answer = submit(here, deploy_form(shown), parts, expected_input_json=SAMPLE)
    assert answer.status_code == 303, answer.text
    model_id = answer.headers["location"].partition("model_id=")[2].partition("&")[0]
    wait_for(lambda: here.model(model_id)["status"] == "live", 120, "the model's going live")


@pytest.mark.parametrize("send", [by_command_line, by_sdk, by_curl, by_page])
@pytest.mark.parametrize(
    ("model", "code", "wanted"),
    [
        ("tripler", ["src/features.py", "src/numbers.py"], [6]),
        ("tripler", ["src"], [6]),
        ("mover", ["train.py"], [12]),
    ],
    ids=["files", "a folder", "the training script"],
)
def test_code_is_found_whichever_way_it_is_sent(
    here: Server, project: Path, send: Send, model: str, code: list[str], wanted: list[int]
) -> None:
    send(here, project, model, code)
    assert here.predict(model, [[2]]).json()["predictions"] == wanted
    document = here.model(model)
    assert document["code_files"] == (["train.py"] if model == "mover" else ["src"])
    if model == "mover":
        facts = document["inspection"]["facts"]
        assert facts["code of train.py"] == "`Mover`, `moved` and what they use; the rest of the script does not run"


def test_a_folder_with_the_training_script_is_pushed_and_the_script_does_not_run(here: Server, project: Path) -> None:
    folder = project.parent / "moved"
    folder.mkdir()
    for name in ("mover.pkl", "train.py"):
        (project / name).rename(folder / name)
    (folder / "sample_input.json").write_text(SAMPLE)
    run(project, "-m", "prism.cli", "push", str(folder), "--url", here.url)
    assert here.predict("moved", [[2]]).json()["predictions"] == [12]
    assert here.model("moved")["code_files"] == ["train.py"]


def test_a_file_that_a_code_file_imports_is_missing_too(here: Server, project: Path) -> None:
    source = "import acme_tracking\nclass Tripler:\n    def predict(self, rows):\n        return rows\n"
    (project / "features.py").write_text(source)
    save = "import pickle\nfrom features import Tripler\npickle.dump(Tripler(), open('near.pkl', 'wb'))\n"
    run(project, "-c", save)
    with Prism(here.url) as client:
        refused = problem(
            here.upload(project / "near.pkl", code={"features.py": (project / "features.py").read_bytes()})
        )
        assert refused["missing"] == ["acme_tracking"]
        files = [project / "features.py", project / "acme_tracking.py"]
        assert client.deploy(project / "near.pkl", code_files=files, expected_input=[[1]]).status == "live"


MEMORY = """
import sys

import numpy as np

import prism
from src import features as company

FACTOR = 2


def doubled(value):
    return float(np.multiply(value, FACTOR))


class Doubler(company.Tripler):
    def predict(self, rows):
        return [doubled(row[0]) for row in rows]


model = prism.deploy(Doubler(), name="doubler", base_url=sys.argv[1], expected_input=[[1]])
print(model.ref, model.status)
"""


def test_a_model_from_memory_is_deployed_with_what_the_session_defines(here: Server, project: Path) -> None:
    (project / "session.py").write_text(MEMORY)
    assert run(project, "session.py", here.url).stdout.split() == ["doubler@1.0.0", "live"]
    assert here.predict("doubler", [[2]]).json()["predictions"] == [4.0]
    assert here.model("doubler")["code_files"] == ["session.py", "src"]


def test_an_estimator_from_memory_needs_no_file(here: Server, project: Path) -> None:
    script = (
        "import sys, prism\nfrom sklearn.linear_model import LinearRegression\n"
        "model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])\n"
        "print(prism.deploy(model, name='line', base_url=sys.argv[1]).status)\n"
    )
    assert run(project, "-c", script, here.url).stdout == "live\n"
    assert here.predict("line", {"features": [[4.0]]}).json()["predictions"] == pytest.approx([8.0])
