"""What the schema of a skops file tells, and files that are none."""

from __future__ import annotations

import json
import operator
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sklearn
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from app.artifact.inspection import inspect
from app.core.inspection import Format, Inspection
from app.errors import UnreadableArtifact, UnsupportedFormat


def inspected(model: Any, folder: Path) -> Inspection:
    skops.io.dump(model, folder / "model.skops")
    return inspect(folder / "model.skops", "model.skops")


def zipped(folder: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "file.skops", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "file.skops"


def test_a_pipeline_reveals_its_versions_names_and_types(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True, as_frame=True)
    columns = make_column_transformer((StandardScaler(), list(x)[:2]), remainder="passthrough")
    found = inspected(make_pipeline(columns, RandomForestClassifier(3)).fit(x, y), tmp_path)
    assert found.format is Format.SKOPS
    pins = {pin.distribution: pin.specifier for pin in found.pins}
    assert pins["scikit-learn"] == f"=={sklearn.__version__}"
    assert pins["skops"] == f">={skops.__version__}"
    assert found.facts["feature_names"].startswith("sepal length (cm), sepal width (cm)")
    assert "sklearn.ensemble._forest.RandomForestClassifier" in found.globals
    assert not found.dangers


def test_a_function_that_runs_things_is_a_danger(tmp_path: Path) -> None:
    found = inspected(FunctionTransformer(partial(eval)), tmp_path)
    assert [danger.name for danger in found.dangers] == ["builtins.eval"]
    found = inspected(FunctionTransformer(operator.methodcaller("system", "id")), tmp_path)
    assert [danger.name for danger in found.dangers] == ["operator.methodcaller"]


def test_a_class_that_is_called_when_the_file_is_loaded_is_a_danger(tmp_path: Path) -> None:
    node = {"__class__": "Popen", "__module__": "subprocess", "__loader__": "ConstructorFromReduceNode", "content": {}}
    path = zipped(tmp_path, {"schema.json": json.dumps({**node, "protocol": 2, "_skops_version": "0.16.0"}).encode()})
    assert [danger.name for danger in inspect(path, "x.skops").dangers] == ["subprocess.Popen"]


def test_a_model_of_a_script_names_the_missing_class(tmp_path: Path) -> None:
    node = {"__class__": "Scaler", "__module__": "__main__", "__loader__": "ObjectNode"}
    path = zipped(tmp_path, {"schema.json": json.dumps({**node, "protocol": 2, "_skops_version": "0.16.0"}).encode()})
    assert inspect(path, "x.skops").missing_code == ("__main__.Scaler",)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (b"{", "not a skops schema"),
        (b'{"a": 1}', "not a skops schema"),
        (b"[" * 100_000, "not a skops schema"),
        (b" " * ((64 << 20) + 1), "expands to over 64 MiB"),
    ],
)
def test_an_invalid_schema_is_rejected(tmp_path: Path, schema: bytes, reason: str) -> None:
    with pytest.raises(UnreadableArtifact, match=reason):
        inspect(zipped(tmp_path, {"schema.json": schema}), "x.skops")


def test_an_archive_that_two_readers_could_read_differently_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.skops", "w") as archive:
        archive.writestr("schema.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("schema.json", b"{}")
    with pytest.raises(UnreadableArtifact, match="more than once"):
        inspect(tmp_path / "x.skops", "x.skops")


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    skops.io.dump(LogisticRegression(max_iter=500).fit(x, y), tmp_path / "whole.skops")
    (tmp_path / "half.skops").write_bytes((tmp_path / "whole.skops").read_bytes()[:-30])
    with pytest.raises(UnreadableArtifact, match="zip archive cannot be read"):
        inspect(tmp_path / "half.skops", "half.skops")


def test_another_zip_archive_is_named_for_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="a zip archive"):
        inspect(zipped(tmp_path, {"weights.bin": b"1", "config.json": b"{}"}), "x.zip")
