"""What may be said in model_config.yaml, and what is said of what may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.artifact.formats.yaml import read_yaml
from app.core.model import QueueLimits
from app.core.model_config import KEYS, MEANT, ModelConfig, TensorSpec, model_config
from app.errors import BadInput

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "models-folder.md").read_text()


def refusal(document: Any) -> tuple[str, str]:
    with pytest.raises(BadInput) as caught:
        model_config(document)
    return caught.value.detail, caught.value.hint


def test_an_empty_file_leaves_everything_as_it_is() -> None:
    assert model_config(None) == model_config({}) == ModelConfig()
    assert model_config({"max_batch_size": None, "inputs": None}) == ModelConfig()


def test_every_key_reaches_its_place() -> None:
    config = model_config(
        {
            "framework": "sklearn",
            "file": "model.pkl",
            "method": "predict_proba",
            "batchable": True,
            "max_batch_size": 32,
            "batch_window_ms": 5,
            "queue_length": 100,
            "predict_timeout_seconds": 2.5,
            "replicas": 3,
            "sample": {"a": 1},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": {"risk": "FP64"},
            "requirements": ["numpy>=2", "pandas"],
            "python_version": "3.11",
            "target": "process",
            "accelerate": "off",
            "allow_unsafe": True,
            "description": "Risk",
        }
    )
    assert config.bounds == QueueLimits(32, 100, 5, 2.5)
    assert config.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert config.outputs == (TensorSpec("risk", "FP64"),)
    assert config.requirement_lines == "numpy>=2\npandas"
    assert model_config({"requirements": "numpy\npandas"}).requirement_lines == "numpy\npandas"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("max_batchsize", "max_batch_size"),
        ("Max_Batch_Size", "max_batch_size"),
        ("replica", "replicas"),
        ("framwork", "framework"),
        ("que_length", "queue_length"),
        ("inputz", "input"),
        ("pythonversion", "python_version"),
        ("requirement", "requirements"),
        *sorted(MEANT.items()),
    ],
)
def test_a_misspelt_key_gets_a_suggestion(key: str, meant: str) -> None:
    detail, hint = refusal({key: 1})
    assert f"`{key}`" in detail
    assert hint == f"Did you mean `{meant}`?"


def test_an_unknown_key_gets_the_list_of_keys() -> None:
    _, hint = refusal({"zzz": 1})
    assert all(key in hint for key in KEYS)
    assert "folder" in refusal({"name": "x"})[1]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"max_batch_size": "many"}, '`max_batch_size: "many"`, which is not a whole number'),
        ({"max_batch_size": 0}, "`max_batch_size: 0`"),
        ({"max_batch_size": 70_000}, "`max_batch_size: 70000`"),
        ({"max_batch_size": True}, "`max_batch_size: true`"),
        ({"batch_window_ms": -1}, "`batch_window_ms: -1`"),
        ({"queue_length": 1.5}, "`queue_length: 1.5`, which is not a whole number"),
        ({"predict_timeout_seconds": 0}, "`predict_timeout_seconds: 0`"),
        ({"allow_unsafe": "yes"}, '`allow_unsafe: "yes"`, which is not true or false'),
        ({"batchable": 1}, "`batchable: 1`, which is not true or false"),
        ({"requirements": ["a", 3]}, "`requirements[1]: 3`"),
        ({"requirements": {"numpy": "2"}}, '`requirements: {"numpy":"2"}`'),
        ({"inputs": 3}, "`inputs: 3`, which is not a list"),
        ({"inputs": [3]}, "`inputs[0]: 3`, which is not keys and values"),
        ({"inputs": [{"name": "x", "shape": ["n"]}]}, '`inputs[0].shape[0]: "n"`'),
        ({"inputs": [{"name": "x", "shape": [-2]}]}, "`inputs[0].shape[0]: -2`"),
        ({"inputs": [{"name": ""}]}, '`inputs[0].name: ""`'),
        ({"inputs": [{"name": "x"}, {"name": "x"}]}, "names `x` twice in `inputs`"),
        ({"outputs": {"y": "FLOAT"}}, "`y` of `outputs` the unknown datatype FLOAT"),
        ({"replicas": 65}, "`replicas: 65`"),
        ({"replicas": 0}, "`replicas: 0`"),
        ({"framework": "keras"}, "unknown `framework: keras`"),
        ({"accelerate": "fast"}, "unknown `accelerate: fast`"),
        ({"method": "a b"}, "`method: a b`, which is not a valid name"),
        ({"input": {"kind": "video"}}, '`input.kind: "video"`'),
        ({"input": {"mode": "rgb"}}, '`input.mode: "rgb"`'),
        ({"input": {"kind": "audio", "rate": 10}}, "`input.rate: 10`"),
        ({"input": {"kind": "audio", "rate": "fast"}}, '`input.rate: "fast"`, which is not a whole number'),
        ({"input": {"kind": "audio", "channels": "both"}}, '`input.channels: "both"`'),
        ({"input": {"kind": "audio", "scale": "loud"}}, '`input.scale: "loud"`'),
        ({"input": {"kind": "audio", "mode": "rgb"}}, "unknown key `mode` in `input`"),
        ({"input": {"size": [8, 8, 3]}}, "`input.size: [8,8,3]`"),
        ({"input": {"size": 99_999}}, "`input.size: 99999`"),
        ({"input": {"scale": "1/0"}}, '`input.scale: "1/0"`'),
        ({"input": {"scale": "a"}}, '`input.scale: "a"`'),
        ({"input": {"std": [1, 0, 1]}}, "`input.std: [1.0,0.0,1.0]`"),
        ({"input": {"mean": "x"}}, '`input.mean: "x"`, which is not a number or a list'),
        (["framework"], "not keys and values"),
        ("framework", "not keys and values"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(document: Any, words: str) -> None:
    assert words in refusal(document)[0]


def test_a_misspelt_key_of_an_input_gets_a_suggestion() -> None:
    detail, hint = refusal({"inputs": [{"name": "x", "dtype": "FP64"}]})
    assert "`dtype` in `inputs[0]`" in detail
    assert "datatype" in hint


def test_columns_under_the_key_of_images_are_sent_to_their_own() -> None:
    detail, hint = refusal({"input": {"age": "FP64"}})
    assert "`age` in `input`" in detail
    assert "`inputs`" in hint


@pytest.mark.parametrize(
    ("text", "sides", "fraction"),
    [
        ("size: 224", [224, 224], []),
        ("size: [8, 16]\n  scale: 1/255", [8, 16], [1, 255]),
        ("scale: -1/255", [], [-1, 255]),
        ("scale: 0.5", [], [0.5, 1]),
        ("scale: 16 / 255", [], [16, 255]),
    ],
)
def test_an_image_is_declared_by_its_size_and_a_fraction(
    tmp_path: Path, text: str, sides: list[int], fraction: list[float]
) -> None:
    (tmp_path / "model_config.yaml").write_text(f"input:\n  kind: image\n  {text}\n")
    image = model_config(read_yaml(tmp_path / "model_config.yaml")).input
    assert image is not None
    assert (image.sides, image.fraction) == (sides, fraction)


def test_a_misspelt_framework_gets_a_suggestion() -> None:
    assert refusal({"framework": "sk-learn"})[1] == "Did you mean `sklearn`?"
    assert refusal({"framework": "XGBoost"})[1] == "Did you mean `xgboost`?"


def test_the_page_explains_every_key_and_its_example_is_right(tmp_path: Path) -> None:
    table = PAGE.split("## model_config.yaml")[1]
    explained = [key for cell in re.findall(r"^\| (`[^|]+`) \|", table, re.M) for key in re.findall(r"`(\w+)`", cell)]
    assert sorted(explained) == sorted(KEYS)
    (tmp_path / "model_config.yaml").write_text(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0])
    config = model_config(read_yaml(tmp_path / "model_config.yaml"))
    assert (config.method, config.max_batch_size, config.requirement_lines) == (
        "predict_proba",
        32,
        "scikit-learn==1.5.2",
    )
