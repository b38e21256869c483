"""Python mode in the runtime: what a class is handed, and what becomes of what it returns."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_container.adapters import load
from model_container.adapters.base import Adapter
from model_container.batch import Batcher
from model_container.contract.config import PredictContract, RuntimeConfig
from model_container.contract.frames import DIALECT_CSV, DIALECT_MLFLOW, DIALECT_V1, Request
from tests.unit.model_container.asking import ask, ask_all, predictions

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def path_and_modules() -> Iterator[None]:
    """A runtime loads one model; the test's process loads many."""
    path, main = list(sys.path), dict(vars(sys.modules["__main__"]))
    yield
    sys.path[:] = path
    sys.modules.pop("model", None)
    vars(sys.modules["__main__"]).clear()
    vars(sys.modules["__main__"]).update(main)


def made(folder: Path, source: str, **call: Any) -> Adapter:
    folder = folder / str(next(NUMBERS))
    folder.mkdir()
    (folder / "model.py").write_text(source)
    (folder / "factor.json").write_text("3")
    return load(RuntimeConfig(str(folder), "python", call=PredictContract(**call)))


SEEN = "class Model:\n    def predict(self, inputs):\n        return {'seen': repr(inputs)}\n"


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ({"features": [[1, None]]}, [[1, None]]),
        ({"instances": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}]),
        ({"inputs": "one text"}, ["one text"]),
        ({"inputs": {"a": [1], "b": 2}}, {"a": [1], "b": 2}),
        ({"a": 1, "b": [2]}, {"a": 1, "b": [2]}),
        ({"inputs": "hi", "temperature": 0.5}, {"inputs": "hi", "temperature": 0.5}),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}, [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        ({"dataframe_records": [{"a": 1}]}, [{"a": 1}]),
    ],
)
def test_predict_receives_the_body_as_sent_without_declared_inputs(tmp_path: Path, body: Any, seen: Any) -> None:
    assert predictions(made(tmp_path, SEEN), body) == [{"seen": repr(seen)}]


@pytest.mark.parametrize(
    ("dialect", "body", "seen"),
    [
        (DIALECT_V1, b'{"instances": [{"a": 1}], "signature_name": "x"}', [{"a": 1}]),
        (DIALECT_MLFLOW, b'{"dataframe_records": [{"a": 1}], "params": {}}', [{"a": 1}]),
        (DIALECT_CSV, b"a,b\n1,x\n2,y\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    ],
)
def test_every_dialect_is_handed_on(tmp_path: Path, dialect: int, body: bytes, seen: Any) -> None:
    (answer,), _, _ = Batcher(made(tmp_path, SEEN)).run([Request(body, dialect)])
    assert json.loads(answer.body)["predictions"] == [{"seen": repr(seen)}]
    (answer,), _, _ = Batcher(made(tmp_path, SEEN)).run([Request(b'{"other": 1}', DIALECT_V1)])
    assert answer.status == 422


def test_tensors_of_v2_are_arrays_by_name(tmp_path: Path) -> None:
    source = "class Model:\n    def predict(self, inputs):\n        return inputs['x'].sum(axis=1)\n"
    body = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    (output,) = ask(made(tmp_path, source), body).json["outputs"]
    assert (output["shape"], output["data"]) == ([2], [3, 7])


TYPED = """
class Model:
    inputs = {"age": "FP64", "city": "BYTES"}
    outputs = {"risk": "FP32"}
    sample = {"age": 3, "city": "oslo"}
    batch = True

    def load(self, folder):
        from pathlib import Path
        self.factor = float((Path(folder) / "factor.json").read_text())

    def preprocess(self, inputs):
        return inputs["age"]

    def predict(self, ages):
        return ages * self.factor

    def postprocess(self, risks):
        return risks + 1
"""


def test_predict_receives_checked_arrays_with_declared_inputs(tmp_path: Path) -> None:
    adapter = made(tmp_path, TYPED)
    assert adapter.samples() == [{"age": 3, "city": "oslo"}]
    assert predictions(adapter, {"city": "lima", "age": 2}) == [7.0]
    assert predictions(adapter, [[2, "lima"], [3, "oslo"]]) == [7.0, 10.0]
    for body, code in (
        ({"age": 2}, "wrong_columns"),
        ({"age": "x", "city": "lima"}, "not_a_number"),
        ([[1, 2, 3]], "wrong_width"),
    ):
        assert ask(adapter, body).json["code"] == code


def test_a_declared_tensor_must_have_its_shape(tmp_path: Path) -> None:
    source = (
        "class Model:\n    inputs = [{'name': 'image', 'datatype': 'FP32', 'shape': [-1, 2, 2]}]\n"
        "    def predict(self, image):\n        return [str(image.dtype) + str(image.shape)] * len(image)\n"
    )
    adapter = made(tmp_path, source)
    assert predictions(adapter, {"inputs": {"image": [[[1, 2], [3, 4]]]}}) == ["float32(1, 2, 2)"]
    assert predictions(adapter, {"instances": [[[1, 2], [3, 4]]] * 3}) == ["float32(3, 2, 2)"] * 3
    refused = ask(adapter, {"instances": [[[1, 2, 3]]]}).json
    assert (refused["code"], refused["expected"]) == ("wrong_shape", [-1, 2, 2])
    assert predictions(adapter, adapter.samples()[0]) == ["float32(1, 2, 2)"]


def test_the_configuration_wins_over_the_class(tmp_path: Path) -> None:
    ports = [{"name": "years", "datatype": "INT64", "shape": [-1]}]
    source = "class Model:\n    inputs = {'age': 'FP64'}\n    batch = True\n    def predict(self, x):\n        return x * 2\n"
    adapter = made(tmp_path, source, inputs=ports, batchable=False)
    assert [one["name"] for one in adapter.signature()["inputs"]] == ["years"]
    assert not adapter.joinable
    assert predictions(adapter, {"years": 2}) == [4]
    assert ask(adapter, {"years": 2.5}).json["code"] == "not_an_integer"


RETURNS = "import numpy as np\nclass Model:\n    def predict(self, rows):\n        return {}\n"


@pytest.mark.parametrize(
    ("returned", "answer"),
    [
        ("[1, 2]", [1, 2]),
        ("(1, 2)", [1, 2]),
        ("np.array([1.5, 2.5])", [1.5, 2.5]),
        ("np.ones((2, 2))", [[1.0, 1.0], [1.0, 1.0]]),
        ("{'a': [1, 2], 'b': np.array([3, 4])}", [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
        ("{'label': 'x', 'score': 1}", [{"label": "x", "score": 1}]),
        ("{'a': [1, 2, 3]}", [{"a": [1, 2, 3]}]),
        ("(row[0] for row in rows)", [5, 6]),
        ("[{'a': 1}, None]", [{"a": 1}, None]),
    ],
)
def test_a_result_is_one_answer_per_row_or_belongs_to_the_whole_request(
    tmp_path: Path, returned: str, answer: Any
) -> None:
    assert predictions(made(tmp_path, RETURNS.format(returned)), [[5], [6]]) == answer


@pytest.mark.parametrize("returned", ["[1]", "[1, 2, 3]", "np.ones(3)", "7", "'text'", "None"])
def test_a_number_of_answers_other_than_the_rows_is_an_error(tmp_path: Path, returned: str) -> None:
    reply = ask(made(tmp_path, RETURNS.format(returned)), [[5], [6]])
    assert (reply.status, reply.json["code"]) == (500, "wrong_output_length")


@pytest.mark.parametrize(
    ("returned", "answer"), [("7", [7]), ("'text'", ["text"]), ("None", [None]), ("[1, 2]", [1, 2])]
)
def test_an_object_has_no_rows_to_be_counted(tmp_path: Path, returned: str, answer: Any) -> None:
    assert predictions(made(tmp_path, RETURNS.format(returned)), {"a": 1}) == answer


BATCHED = """
class Model:
    batch = True
    calls = []

    def predict(self, rows):
        self.calls.append(len(rows))
        if any(row == [13] or row == {"a": 13} for row in rows):
            raise ValueError("thirteen")
        return [repr(row) for row in rows]
"""
ROW = st.one_of(
    st.lists(st.integers(0, 20), min_size=1, max_size=2),
    st.fixed_dictionaries({"a": st.integers(0, 20)}),
    st.fixed_dictionaries({"a": st.none(), "b": st.text(max_size=2)}),
    st.integers(),
    st.text(max_size=3),
)
BODIES = st.lists(st.lists(ROW, min_size=1, max_size=3), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=BODIES)
def test_batched_equals_unbatched(tmp_path: Path, bodies: list[Any]) -> None:
    adapter = made(tmp_path, BATCHED)
    assert ask_all(Batcher(adapter), bodies) == [ask(adapter, body) for body in bodies]


def test_rows_are_joined_only_where_the_class_says_so(tmp_path: Path) -> None:
    for source, wanted in ((BATCHED, [3]), (BATCHED.replace("batch = True", ""), [1, 2])):
        adapter = made(tmp_path, source)
        ask_all(Batcher(adapter), [[[1]], [[2], [3]]])
        assert sys.modules["model"].Model.calls == wanted


def test_one_bad_request_among_many_fails_alone(tmp_path: Path) -> None:
    bodies = [[[index]] for index in range(32)]
    replies = ask_all(Batcher(made(tmp_path, BATCHED)), bodies)
    assert [reply.status for reply in replies] == [422 if index == 13 else 200 for index in range(32)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\n", "one class with load and predict"),
        ("class A:\n    def load(self): 0\n    def predict(self, x): 0\nclass B(A): pass\n", "found: A, B"),
        (
            "class Model:\n    def __init__(self, a): 0\n    def predict(self, x): 0\n",
            "cannot be called without arguments",
        ),
        ("class Model:\n    async def predict(self, x): 0\n", "is async"),
        ("class Model:\n    preprocess = 3\n    def predict(self, x): 0\n", "preprocess of Model is not a method"),
        ("class Model:\n    inputs = {'a': 'FLOAT'}\n    def predict(self, x): 0\n", "datatype 'FLOAT'"),
        ("class Model:\n    inputs = ['a']\n    def predict(self, x): 0\n", "inputs of Model is neither"),
    ],
)
def test_a_class_that_cannot_serve_says_why(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        made(tmp_path, source)


def test_only_classes_of_model_py_count(tmp_path: Path) -> None:
    source = (
        "from unittest.mock import Mock\nclass Own:\n    def load(self): 0\n    def predict(self, rows): return rows\n"
    )
    assert predictions(made(tmp_path, source), [[1]]) == [[1]]


def test_the_folders_modules_can_be_imported_and_what_was_pickled_in_main_is_found(tmp_path: Path) -> None:
    import pickle

    folder = tmp_path / "own"
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg" / "__init__.py").write_text("FACTOR = 4\n")
    (folder / "model.py").write_text(
        "import os, pickle\nfrom pkg import FACTOR\nclass Part:\n    pass\nclass Model:\n    def load(self, folder):\n"
        "        with open(os.path.join(folder, 'part.pkl'), 'rb') as file:\n            self.part = pickle.load(file)\n"
        "    def predict(self, rows):\n        return [row[0] * FACTOR * self.part.value for row in rows]\n"
    )
    pickled = pickle.dumps(_Part(5)).replace(b"\x8c" + bytes([len(__name__)]) + __name__.encode(), b"\x8c\x08__main__")
    pickled = pickled.replace(b"\x8c\x05_Part", b"\x8c\x04Part")
    (folder / "part.pkl").write_bytes(reframed(pickled))
    assert predictions(load(RuntimeConfig(str(folder), "python")), [[2]]) == [40]


class _Part:
    def __init__(self, value: int) -> None:
        self.value = value


def reframed(pickled: bytes) -> bytes:
    """Without its frame, whose length is no longer right."""
    assert pickled[2:3] == b"\x95"
    return pickled[:2] + pickled[11:]


def test_arrays_of_numpy_are_never_mistaken_for_rows_of_objects(tmp_path: Path) -> None:
    source = "class Model:\n    batch = True\n    def predict(self, rows):\n        return [sum(row) for row in rows]\n"
    adapter = made(tmp_path, source)
    assert predictions(adapter, [[1, 2], [3, 4]]) == [3, 7]
    assert np.asarray(predictions(adapter, [[1]])).tolist() == [1]


HINTED = """
import typing
from typing import Any, Dict, List, Optional

class Row(typing.TypedDict):
    city: str
    km: float
    tags: Optional[List[str]]

class Model:
    def predict(self, {argument}):
        {code}
"""
ROW = {"city": "a short text", "km": 1.0, "tags": ["a short text"]}


@pytest.mark.parametrize(
    ("argument", "code", "samples"),
    [
        ("rows: List[Row]", "...", [{"features": [ROW]}]),
        ("request: Row", "...", [ROW]),
        ("request: 'Row'", "...", [ROW]),
        ("texts: List[str]", "...", [{"input": ["a short text"]}]),
        ("rows: List[List[int]]", "...", [{"features": [[1] * width]} for width in (1, 2, 4)]),
        ("rows", "return [row['km'] * row.get('n', 1) for row in rows]", [{"features": [{"km": 1.0, "n": 1.0}]}]),
        ("request: dict", "return request['prompt']", [{"prompt": 1.0}, {"prompt": "a short text"}]),
        ("rows: Unknown", "return rows", [{"features": [[1.0]]}]),
        ("rows: List[Any]", "return self.rates['a']", [{"features": [[1.0]]}]),
    ],
)
def test_samples_follow_the_type_hints_or_the_names_that_the_code_reads(
    tmp_path: Path, argument: str, code: str, samples: list[Any]
) -> None:
    source = "from __future__ import annotations" + HINTED.replace("{argument}", argument).replace("{code}", code)
    assert made(tmp_path, source).samples()[: len(samples)] == samples
