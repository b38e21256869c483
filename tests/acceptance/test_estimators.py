"""What scikit-learn predicts in memory, it predicts through PRISM."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import msgspec
import pytest

from model_container.adapters import load
from model_container.batch import Batcher
from model_container.contract.config import RuntimeConfig
from model_container.contract.frames import Request
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server
from tests.estimators import agrees, expected, small_set, trained

pytestmark = pytest.mark.slow

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
    x, _, _ = small_set()
    body = msgspec.json.encode({"features": x[:20].tolist()})
    for name, model in trained():
        path = dumped(model, how, tmp_path / name)
        batcher = Batcher(load(RuntimeConfig(str(path), "pickle" if how == "pickle" else "joblib")))
        (answer,), _, _ = batcher.run([Request(body)])
        assert answer.status == 200, (name, answer.body)
        predictions = msgspec.json.decode(answer.body)["predictions"]
        assert agrees(predictions, expected(model, x[:20]), model), name


@pytest.mark.filterwarnings("ignore")
def test_each_answers_one_of_the_samples_made_from_its_signature(tmp_path: Path) -> None:
    refusing = set()
    for name, model in trained():
        adapter = load(RuntimeConfig(str(dumped(model, "pickle", tmp_path / name)), "pickle"))
        requests = [Request(msgspec.json.encode(sample)) for sample in adapter.samples()]
        if not any(answer.status == 200 for answer in Batcher(adapter).run(requests)[0]):
            refusing.add(name)
    assert refusing <= {"RadiusNeighborsClassifier"}, "it answers only near its training data"


def by_family() -> list[tuple[str, Any]]:
    """One estimator for each of scikit-learn's modules, kind of prediction and number of its dimensions.

    What an estimator alone decides is tested above for each of them; the road from the file to the answer is the same
    for all of a family.
    """
    x, _, _ = small_set()
    families: dict[tuple[str, str, int], tuple[str, Any]] = {}
    for name, model in trained():
        wanted = expected(model, x)
        families.setdefault((type(model).__module__.split(".")[1], wanted.dtype.kind, wanted.ndim), (name, model))
    return list(families.values())


def test_one_of_each_family_predicts_through_prism_what_it_does_in_memory(
    start_server: StartServer, iris_file: Path, tmp_path: Path
) -> None:
    """From upload to prediction. The kinds of file take turns: above, each estimator is loaded from each of them."""
    server = start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    server.deploy(iris_file)  # stays, and with it the environment, which goes with the last model that needs it
    turns = ["pickle", *COMPRESSIONS]
    jobs = [(name, model, turns[index % len(turns)]) for index, (name, model) in enumerate(by_family())]
    assert len(jobs) >= 25
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda job: served_as_in_memory(server, tmp_path, *job), jobs))
    assert [outcome for outcome in outcomes if outcome] == []


def served_as_in_memory(server: Server, folder: Path, name: str, model: Any, how: str) -> str:
    """Return "" if it is, else what went wrong."""
    x, _, _ = small_set()
    ref = f"{name}-{how}"
    answer = server.upload(dumped(model, how, folder / ref), model_name=ref)
    if answer.status_code != 201:
        return f"{ref}: {answer.text}"
    answer = server.predict(ref, {"features": x[:20].tolist()})
    server.http.delete(f"/models/{ref}")
    if answer.status_code != 200 or not agrees(answer.json()["predictions"], expected(model, x[:20]), model):
        return f"{ref}: {answer.text}"
    return ""
