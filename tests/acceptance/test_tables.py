"""Tables of many rows through the `prism` command, equal to the model in memory, with what stops one in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server

ROWS = 20_000


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(ROWS, 3)).round(4)
    numbers[::50, 0] = np.nan
    frame = pd.DataFrame(numbers, columns=["age, years", "income", "debt"])
    frame["city"] = random.choice(["Oslo", "Rome; Lazio", 'Lima "centre"', "Bern\nold town"], ROWS)
    return frame


@pytest.fixture(scope="module")
def pipeline(frame: pd.DataFrame) -> Any:
    numbers, city = list(frame.columns[:3]), ["city"]
    columns = make_column_transformer((SimpleImputer(), numbers), (OneHotEncoder(), city))
    labels = np.where(frame["income"] + (frame["city"] == "Oslo") > 0.3, "yes", "no")
    return make_pipeline(columns, RandomForestClassifier(20, max_depth=5, random_state=0)).fit(frame, labels)


@pytest.fixture(scope="module")
def server(module_server: StartServer, pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = module_server(PRISM_TARGET="process")
    file = tmp_path_factory.mktemp("models") / "credit.joblib"
    joblib.dump(pipeline, file)
    server.deploy(file, model_name="credit")
    return server


def started(server: Server, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prism.cli", "predict", "credit", *arguments]
    environ = {**os.environ, "PRISM_URL": server.url}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environ,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        # A shell ignores Ctrl-C for what it runs in the background, and so would all that is started there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def prism(server: Server, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    process = started(server, *arguments)
    output, messages = process.communicate(stdin, timeout=300)
    return process.returncode, output, messages


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_is_predicted_as_in_memory(
    server: Server, pipeline: Any, frame: pd.DataFrame, tmp_path: Path, delimiter: str
) -> None:
    frame[reversed(frame.columns)].to_csv(tmp_path / "data.csv", index=False, sep=delimiter, encoding="utf-8-sig")
    output = tmp_path / "out.csv"
    code, _, said = prism(server, "-f", str(tmp_path / "data.csv"), "-o", str(output), "--probabilities")
    assert (code, "20000 rows" in said) == (0, True), said
    answered = pd.read_csv(output, sep=delimiter)
    pd.testing.assert_frame_equal(answered[frame.columns], frame)
    assert (answered["prediction"] == pipeline.predict(frame)).all()
    shares = answered[["probability_no", "probability_yes"]].to_numpy()
    np.testing.assert_allclose(shares, pipeline.predict_proba(frame), rtol=1e-12)


def test_standard_input_and_output_take_a_table_and_json_as_before(server: Server, frame: pd.DataFrame) -> None:
    head = frame.head(3)
    code, output, _ = prism(server, "-f", "-", stdin=head.to_csv(index=False))
    assert code == 0
    assert output.splitlines()[0] == '"age, years",income,debt,city,prediction,error'
    records = json.dumps(json.loads(head.to_json(orient="records")))
    assert len(prism(server, "-f", "-", stdin=records)[1].splitlines()) == 3


def test_bad_cells_cost_their_rows_alone_the_result(
    server: Server, pipeline: Any, frame: pd.DataFrame, tmp_path: Path
) -> None:
    data, output = tmp_path / "data.csv", tmp_path / "out.csv"
    spoilt = frame.astype({"income": object})
    spoilt.loc[15_000, "income"] = "a lot"
    spoilt.loc[[3, 9_000, 19_999], "city"] = "Paris"
    spoilt.to_csv(data, index=False)
    code, _, said = prism(server, "-f", str(data), "-o", str(output))
    assert (code, "4 of them have an error" in said) == (0, True), said
    answered = pd.read_csv(output)
    errors = answered["error"].dropna()
    assert list(errors.index) == [3, 9_000, 15_000, 19_999]
    assert errors[15_000] == "Column 'income' holds \"a lot\" where a number is expected."
    assert "unknown categories ['Paris']" in errors[3]
    good = answered["error"].isna()
    assert (answered["prediction"][good] == pipeline.predict(frame)[good]).all()
    assert answered["prediction"][~good].isna().all()


def test_a_table_of_other_columns_stops_at_once(server: Server, frame: pd.DataFrame, tmp_path: Path) -> None:
    for spoilt, words in (
        (frame.rename(columns={"city": "town"}), "Missing"),
        (frame.assign(income="a lot"), "None of the first 16 rows has a result. Column 'income' holds"),
    ):
        spoilt.to_csv(tmp_path / "data.csv", index=False)
        code, _, said = prism(server, "-f", str(tmp_path / "data.csv"), "-o", str(tmp_path / "out.csv"))
        assert (code, words in said) == (1, True), said
        assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_an_interrupted_table_goes_on_where_it_stopped(
    server: Server, pipeline: Any, frame: pd.DataFrame, tmp_path: Path
) -> None:
    data, output, part = tmp_path / "data.csv", tmp_path / "out.csv", tmp_path / "out.csv.part"
    many = pd.concat([frame] * 20)
    many.to_csv(data, index=False)
    process = started(server, "-f", str(data), "-o", str(output))
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume" in said
    assert not output.exists()
    code, _, said = prism(server, "-f", str(data), "-o", str(output), "--resume")
    assert code == 0, said
    assert (pd.read_csv(output)["prediction"].to_numpy() == np.tile(pipeline.predict(frame), 20)).all()


def test_options_that_do_not_go_together_are_wrong_usage(server: Server, tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    table.write_text("a\n1\n")
    for arguments in (
        ("[1]", "-o", "out.csv"),
        ("-f", str(table), "--json"),
        ("-f", str(table), "--resume"),
        ("-f", str(tmp_path / "nowhere.csv")),
        ("-f", str(table), "[1]"),
        ("-f", str(table), "--stream"),
    ):
        code, _, said = prism(server, *arguments)
        assert (code, "Traceback" in said) == (2, False), (arguments, said)
