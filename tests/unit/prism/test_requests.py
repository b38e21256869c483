from __future__ import annotations

import io
import json
import math
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from prism import errors, requests


def test_a_ref_becomes_one_path_segment_whatever_it_holds() -> None:
    assert requests.get_model("iris@1.0.0").path == "/models/iris@1.0.0"
    assert requests.predict("a/../b?c", {}).path == "/models/a%2F..%2Fb%3Fc/predict"


@pytest.mark.parametrize("ref", ["", "  ", "..", "/"])
def test_a_ref_that_would_reach_another_route_is_refused_before_anything_is_sent(ref: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="is not a reference to a model"):
        requests.delete_model(ref)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"input": [1, 2]}, {"input": [1, 2]}),
        (np.array([[1.5, 2.0]]), [[1.5, 2.0]]),
        ({"features": [np.float64(0.5), np.int64(3)]}, {"features": [0.5, 3]}),
        ([math.nan, math.inf], [None, None]),
        (b'{"sent": "as it is"}', {"sent": "as it is"}),
        ({"joined": pd.Timestamp("2024-01-02 03:04")}, {"joined": "2024-01-02T03:04:00"}),
        ({"joined": pd.NaT, "age": pd.NA}, {"joined": None, "age": None}),
        (pd.Series(pd.to_datetime(["2024-01-02"])), ["2024-01-02T00:00:00"]),
        (np.array(["2024-01-02", "NaT"], dtype="datetime64[ns]"), ["2024-01-02T00:00:00", None]),
        (np.datetime64("2024-01-02"), "2024-01-02"),
    ],
)
def test_inputs_become_json(data: object, expected: object) -> None:
    assert json.loads(requests.encode(data)) == expected


def test_a_dataframe_keeps_its_column_names() -> None:
    body = json.loads(requests.encode(pd.DataFrame({"age": [41], "city": ["Oslo"]})))
    assert body["dataframe_split"]["columns"] == ["age", "city"]
    assert body["dataframe_split"]["data"] == [[41, "Oslo"]]


def test_an_input_without_json_form_is_refused_by_its_type() -> None:
    with pytest.raises(errors.InvalidRequest, match="Thread"):
        requests.encode({"who": Thread()})


def test_the_form_holds_only_what_was_given(tmp_path: Path) -> None:
    call = requests.deploy(
        tmp_path / "m.onnx",
        name="m",
        expected_input={"input": [1]},
        requirements=["numpy==2.1", "scikit-learn"],
        allow_unsafe=True,
        allow_packages=["acme", "other=other-models"],
        accelerate=False,
        code_files=[tmp_path / "a.py", tmp_path / "b.py"],
    )
    assert call.form is not None
    assert call.form.fields == {
        "model_name": "m",
        "expected_input_json": '{"input":[1]}',
        "requirements": "numpy==2.1\nscikit-learn",
        "allow_unsafe": "true",
        "allow_packages": "acme,other=other-models",
        "accelerate": "off",
    }
    assert [name for name, *_ in call.form.files] == ["file", "code_files", "code_files"]
    assert call.params == {"wait": "false"}


def test_progress_is_told_in_bytes_and_counts_again_when_the_file_is_read_again() -> None:
    told: list[tuple[int, int]] = []
    form = requests.deploy(io.BytesIO(b"x" * 10), on_bytes=lambda sent, total: told.append((sent, total))).form
    assert form is not None
    with form.opened() as arguments:
        _, (filename, file, _) = arguments["files"][0]
        for _ in range(2):
            file.seek(0)
            while file.read(6):
                pass
    assert filename == "model"
    assert told == [(6, 10), (10, 10)] * 2


def test_a_missing_file_is_reported_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pkl"), requests.deploy(tmp_path / "nowhere.pkl").content():
        pass


def test_the_number_of_replicas_is_sent_only_where_it_is_given() -> None:
    form = requests.deploy("m.pkl", replicas=3).form
    assert form is not None
    assert form.fields["replicas"] == "3"
    without = requests.deploy("m.pkl").form
    assert without is not None
    assert "replicas" not in without.fields
    call = requests.scale("iris@1.0.0", 5)
    assert (call.method, call.path, call.body) == ("PATCH", "/models/iris@1.0.0", b'{"replicas":5}')
    assert requests.logs("iris", replica=2).params == {"tail": "200", "kind": "runtime", "replica": "2"}
    stamped = {"tail": "200", "kind": "runtime", "timestamps": "true"}
    assert requests.logs("iris", timestamps=True).params == stamped
