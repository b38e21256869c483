"""What scikit-learn predicts in memory, it predicts through PRISM."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import pytest

from model_container.adapters import load
from model_container.batch import Batcher
from model_container.contract.config import RuntimeConfig
from model_container.contract.frames import Request
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server
from tests.estimators import agrees, expected, small_set, trained

COMPRESSIONS: dict[str, Any] = {
    "none": 0,
    "zlib": ("zlib", 3),
    "gzip": ("gzip", 3),
    "bz2": ("bz2", 3),
    "lzma": ("lzma", 1),
    "xz": ("xz", 1),
    "lz4": ("lz4", 3),
}


def test_nearly_every_classifier_and_regressor_is_among_them() -> None:
    assert len(trained()) >= 95


def dumped(model: Any, how: str, path: Path) -> Path:
    if how == "pickle":
        path = path.with_suffix(".pkl")
        path.write_bytes(pickle.dumps(model))
    else:
        path = path.with_suffix(".joblib")
        joblib.dump(model, path, compress=COMPRESSIONS[how])
    return path


@pytest.mark.parametrize("how", ["pickle", *COMPRESSIONS])
@pytest.mark.filterwarnings("ignore")
def test_each_kind_of_file_is_loaded_by_the_runtime_and_predicts_what_it_does_in_memory(
    how: str, tmp_path: Path
) -> None:
    import msgspec

    x, _, _ = small_set()
    body = msgspec.json.encode({"features": x[:5].tolist()})
    for name, model in trained():
        path = dumped(model, how, tmp_path / name)
        adapter = load(RuntimeConfig(str(path), "pickle" if how == "pickle" else "joblib"))
        (answer,), _, _ = Batcher(adapter).run([Request(body)])
        assert answer.status == 200, (name, answer.body)
        predictions = msgspec.json.decode(answer.body)["predictions"]
        assert agrees(predictions, expected(model, x[:5]), model), name


@pytest.mark.slow
def test_each_predicts_through_prism_what_it_does_in_memory(
    start_server: StartServer, iris_file: Path, tmp_path: Path
) -> None:
    """From upload to prediction. The kinds of file take turns: above, each estimator is loaded from each of them."""
    server = start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    server.deploy(iris_file)  # stays, and with it the environment, which goes with the last model that needs it
    turns = ["pickle", *COMPRESSIONS]
    jobs = [(name, model, turns[index % len(turns)]) for index, (name, model) in enumerate(trained())]
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda job: served_as_in_memory(server, tmp_path, *job), jobs))
    assert [outcome for outcome in outcomes if outcome] == []


def served_as_in_memory(server: Server, folder: Path, name: str, model: Any, how: str) -> str:
    """ "" if so, else what went wrong."""
    x, _, _ = small_set()
    ref = f"{name}-{how}"
    fields = {"model_name": ref}
    if name.startswith("RadiusNeighbors"):  # answers only near its training data, where no made-up sample lies
        fields["expected_input_json"] = json.dumps({"features": x[:1].tolist()})
    answer = server.upload(dumped(model, how, folder / ref), **fields)
    if answer.status_code != 201:
        return f"{ref}: {answer.text}"
    answer = server.predict(ref, {"features": x[:20].tolist()})
    server.http.delete(f"/models/{ref}")
    if answer.status_code != 200 or not agrees(answer.json()["predictions"], expected(model, x[:20]), model):
        return f"{ref}: {answer.text}"
    return ""
