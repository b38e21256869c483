"""What the README shows, done as written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT

README = (CHECKOUT / "README.md").read_text()


def block(language: str, holding: str) -> str:
    """The fenced block of a language that holds a text."""
    (found,) = [each for each in re.findall(rf"```{language}\n(.*?)```", README, re.S) if holding in each]
    return str(found)


def test_the_first_curl_answers_what_is_printed_below_it(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process")
    server.deploy(CHECKOUT / "model_store" / "samples" / "iris" / "iris.joblib", model_name="iris")
    shown = block("bash", "/models/iris/predict")
    command, _, comment = shown.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").partition("\n# ")
    answer = json.loads(subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout)
    promised = json.loads(comment)
    assert answer.keys() == promised.keys()
    assert answer["predictions"] == promised["predictions"]


def test_the_python_example_runs_with_a_trained_model(start_server: StartServer, tmp_path: Path) -> None:
    frame = pd.DataFrame({"amount": [10.0, 900.0, 20.0, 800.0], "country": ["NO", "SE", "NO", "SE"]})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["country"]), remainder="passthrough"), LogisticRegression()
    )
    joblib.dump(model.fit(frame, ["fine", "fraud", "fine", "fraud"]), tmp_path / "model.joblib")
    server = start_server(PRISM_TARGET="process")
    environ = {**os.environ, "PRISM_URL": server.url}
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import joblib\nmodel = joblib.load('model.joblib')\n{block('python', 'import prism')}",
        ],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "['fine']\n"


def test_every_page_that_is_linked_exists() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md"), CHECKOUT / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
