"""The tables of docs/formats.md of what people push: each model is made and pushed as its row says, and answers as in memory.

The models are trained in an environment of their own, which has all of these libraries.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.runtime.packages.index import machine_index
from tests.acceptance.served import serving
from tests.acceptance.server import CHECKOUT, Server
from tests.conftest import missing_torch

pytestmark = pytest.mark.slow

SECTION = (CHECKOUT / "docs" / "formats.md").read_text().split("\n## What people push\n")[1].split("\n## ")[0]
PACKAGES = (
    *("scikit-learn", "joblib", "pandas", "cloudpickle", "skops", "imbalanced-learn", "category_encoders"),
    *("xgboost-cpu==3.2.0", "lightgbm", "catboost", "statsmodels", "mlflow-skinny", "onnx", "skl2onnx", "pyarrow"),
)
TORCH_PACKAGES = ("torch==2.13.0", "keras")
AT_ONCE = 3


class Row(NamedTuple):
    """A row of one of the tables. saved: a line of Python, "" where the model is not saved by one. sent: as it is written
    there, JSON or the name of an image; told: the sentence about what is not served.
    """

    what: str
    saved: str
    command: str
    sent: str = ""
    told: str = ""

    @property
    def pushed(self) -> str:
        return shlex.split(self.command)[2]

    @property
    def name(self) -> str:
        return self.pushed.partition(".")[0]

    @property
    def body(self) -> Any:
        return json.loads(self.sent) if self.sent[:1] in ("{", "[") else self.sent or None


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table behind a heading, without the head of it."""
    table = SECTION.split(f"| {heading} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def code_in(cell: str) -> str:
    """The code of a cell that is nothing else; otherwise ""."""
    found = re.fullmatch(r"`(.+)`", cell)
    return found[1] if found and "`" not in found[1] else ""


SERVED = [
    Row(what, code_in(saved), code_in(command), sent=code_in(sent))
    for what, saved, command, sent in rows_of("what is served")
]
REFUSED = [
    Row(what, code_in(saved), code_in(command), told=told)
    for what, saved, command, told in rows_of("what is not served")
]


def each(rows: list[Row]) -> list[Any]:
    torch = [pytest.mark.torch]
    return [
        pytest.param(row, id=row.pushed, marks=torch if re.search("PyTorch|Keras", row.what) else []) for row in rows
    ]


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """The rows of those tests that are to run and that this machine does not skip."""
    tests = [one for one in request.session.items if one.path == request.path and hasattr(one, "callspec")]
    skips_torch = bool(missing_torch())
    return [one.callspec.params["row"] for one in tests if not (skips_torch and one.get_closest_marker("torch"))]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with all of these libraries."""
    folder = tmp_path_factory.mktemp("libraries") / "environment"
    uv, environ = Path(sys.executable).with_name("uv"), machine_index().variables
    packages = PACKAGES if missing_torch() else (*PACKAGES, *TORCH_PACKAGES)
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    install = [uv, "pip", "install", "-q", "--python", folder / "bin/python", *packages]
    subprocess.run(install, env=environ, check=True)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the models are made and from which they are pushed."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def wanted(python: Path, project: Path, rows: list[Row]) -> dict[str, Any]:
    """What each model answers in memory."""
    made = subprocess.run(
        [python, "-m", "tests.acceptance.pushed_models"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"},
        input=json.dumps([{"pushed": row.pushed, "saved": row.saved, "sent": row.body} for row in rows]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers: dict[str, Any] = json.loads(made.stdout)
    return answers


class Outcome(NamedTuple):
    """What came of a row. printed: what the command printed. answer: to what is sent; turned: to its columns in another
    order; both None where nothing is sent.
    """

    printed: str
    is_live: bool
    answer: Any = None
    turned: Any = None


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory,
    environments: Path,
    project: Path,
    wanted: dict[str, Any],
    rows: list[Row],
) -> Iterator[dict[str, Outcome]]:
    settings = {"PRISM_TARGET": "process", "PRISM_START_TIMEOUT_SECONDS": 180}
    with (
        serving(tmp_path_factory.mktemp("home"), environments, **settings) as server,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        done = pool.map(lambda row: pushed(server, project, row), rows)
        yield {row.pushed: outcome for row, outcome in zip(rows, done, strict=True)}


def pushed(server: Server, project: Path, row: Row) -> Outcome:
    """Run a row's command, send what it says, and stop the model."""
    environ = {**os.environ, "PRISM_URL": server.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", row.command], cwd=project, env=environ, capture_output=True, text=True)
    printed = " ".join(f"{ran.stdout} {ran.stderr}".split())
    if ran.returncode or not row.sent:
        return Outcome(printed, not ran.returncode)
    if row.body == row.sent:
        image = (project / row.sent).read_bytes()
        answer = server.http.post(f"/models/{row.name}/predict", content=image, headers={"Content-Type": "image/png"})
        turned = answer
    else:
        answer = server.predict(row.name, row.body)
        turned = server.predict(row.name, dict(reversed(row.body.items())) if type(row.body) is dict else row.body)
    server.http.post(f"/models/{row.name}/stop")
    return Outcome(printed, True, answer.json(), turned.json())


@pytest.mark.parametrize("row", each(SERVED))
def test_what_is_pushed_as_the_table_says_answers_as_in_memory(
    outcomes: dict[str, Outcome], wanted: dict[str, Any], row: Row
) -> None:
    outcome = outcomes[row.pushed]
    assert outcome.is_live, outcome.printed
    assert_same(outcome.answer.get("predictions", outcome.answer), wanted[row.pushed])
    assert outcome.turned == outcome.answer, "columns go by name, not by their order"


def assert_same(predictions: Any, expected: Any) -> None:
    """Check that labels are equal, and numbers up to the rounding of FP32. Of named values those that are expected count."""
    if isinstance(expected, list) and isinstance(expected[0], dict):
        assert len(predictions) == len(expected)
        predictions = [[given[name] for name in row] for given, row in zip(predictions, expected, strict=True)]
        expected = [list(row.values()) for row in expected]
    for got, right in zip(flat(predictions), flat(expected), strict=True):
        assert got == (pytest.approx(right, rel=1e-4, abs=1e-6) if isinstance(right, float) else right), predictions


def flat(values: Any) -> list[Any]:
    return [leaf for value in values for leaf in flat(value)] if isinstance(values, list) else [values]


@pytest.mark.parametrize("row", each(REFUSED))
def test_what_is_not_served_says_so_in_a_sentence(outcomes: dict[str, Outcome], row: Row) -> None:
    outcome = outcomes[row.pushed]
    assert not outcome.is_live
    assert row.told.replace("\\", "") in outcome.printed


def test_the_table_has_thirty_models() -> None:
    assert len(SERVED) >= 30
