"""An upload is what its content says, and is read without being run."""

from __future__ import annotations

import collections
import contextlib
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMRegressor
from scipy import stats
from skl2onnx import to_onnx
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.artifact.inspection import inspect
from app.core.inspection import Format, Inspection, UnsafeGlobal
from app.errors import BadInput, MissingCode, UnreadableArtifact, UnsafeArtifact, UnsupportedFormat
from app.lifecycle.intake.refusals import refuse_unusable

X = np.random.default_rng(0).random((40, 3))
Y = (X[:, 0] > 0.5).astype(int)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(pd.DataFrame(X, columns=["a", "b", "c"]), Y)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "artifact"


def found(file: Path, content: bytes, filename: str) -> Inspection:
    file.write_bytes(content)
    return inspect(file, filename)


def pins(inspection: Inspection) -> dict[str, str]:
    return {pin.distribution: pin.specifier for pin in inspection.pins}


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_recognised(protocol: int, model: Any, file: Path) -> None:
    inspection = found(file, pickle.dumps(model, protocol), "model.pkl")
    assert inspection.format is Format.PICKLE
    assert inspection.facts["pickle_protocol"] == (str(protocol) if protocol > 1 else "0 or 1")
    assert inspection.facts["feature_names"] == "a, b, c"
    assert pins(inspection) == {"scikit-learn": f"=={sklearn.__version__}", "numpy": ">=2"}
    assert inspection.dangers == ()
    assert inspection.second_opinion


def test_a_model_set_to_hand_on_dataframes_needs_pandas(model: Any, file: Path) -> None:
    model.set_output(transform="pandas")
    assert "pandas" in pins(found(file, pickle.dumps(model), "model.pkl"))


ARROW = (
    b"\x80\x04cpyarrow.lib\n_restore_array\n((cpyarrow.lib\ntype_for_alias\n(\x8c\x06stringtRK\x01K\x00N]"
    b"(cpyarrow.lib\npy_buffer\n(C\x01atRettR."
)
"""An array of Arrow, as pandas 3 keeps texts where pyarrow is installed."""


def test_texts_as_pandas_keeps_them_need_no_consent(file: Path) -> None:
    inspection = found(file, ARROW, "model.pkl")
    assert inspection.dangers == ()
    assert "pyarrow" in pins(inspection)


def test_columns_selected_by_their_type_need_no_consent(file: Path) -> None:
    columns = make_column_transformer((StandardScaler(), make_column_selector(dtype_include=np.number)))
    fitted = columns.fit(pd.DataFrame(X, columns=["a", "b", "c"]))
    assert found(file, pickle.dumps(fitted), "model.pkl").dangers == ()


def test_a_search_over_distributions_is_told_what_to_save_instead(file: Path) -> None:
    search = RandomizedSearchCV(LogisticRegression(), {"C": stats.loguniform(0.1, 1)}, n_iter=1, cv=2).fit(X, Y)
    dangers = found(file, pickle.dumps(search), "model.pkl").dangers
    assert dangers
    assert all("save `search.best_estimator_`" in danger.reason for danger in dangers)


def test_an_estimator_that_does_not_load_without_scikit_learn_gets_it(file: Path) -> None:
    """LightGBM's metadata leave it to whoever uses its estimators."""
    regressor = LGBMRegressor(n_estimators=1, verbose=-1, min_child_samples=1).fit(
        [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]
    )
    inspection = found(file, pickle.dumps(regressor), "model.pkl")
    assert pins(inspection)["scikit-learn"] == ""
    (pin,) = [pin for pin in inspection.pins if pin.distribution == "scikit-learn"]
    assert pin.evidence == "`lightgbm.sklearn.LGBMRegressor` does not load without it"


@pytest.mark.parametrize("compress", [0, "zlib", "gzip", "bz2", "xz", "lzma", "lz4"])
def test_a_joblib_dump_has_the_format_joblib(compress: Any, model: Any, file: Path) -> None:
    joblib.dump(model, file, compress=compress and (compress, 3))
    inspection = inspect(file, "model.bin")
    assert inspection.format is Format.JOBLIB
    assert inspection.compression == (compress or "")
    assert int(inspection.facts["joblib_arrays"]) > 0
    assert pins(inspection)["joblib"] == ""
    assert any("picklescan" in line for line in inspection.second_opinion)


def test_a_plain_pickle_that_is_named_joblib_or_compressed_is_loaded_by_joblib(model: Any, file: Path) -> None:
    plain = pickle.dumps(model)
    assert found(file, plain, "model.joblib").format is Format.JOBLIB
    assert found(file, gzip.compress(plain), "model.pkl").format is Format.JOBLIB


def test_the_name_does_not_decide(model: Any, file: Path) -> None:
    assert found(file, pickle.dumps(model), "model.onnx").format is Format.PICKLE
    assert found(file, pickle.dumps(model, 0), "model").format is Format.PICKLE


def test_a_model_of_lightgbm_needs_lightgbm(file: Path) -> None:
    model = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y)
    inspection = found(file, pickle.dumps(model), "model.pkl")
    assert {"lightgbm", "scikit-learn"} <= pins(inspection).keys()
    refuse_unusable(inspection, allow_unsafe=False)


def test_onnx_is_recognised_and_shown(file: Path) -> None:
    converted = to_onnx(LogisticRegression().fit(X, Y), X[:1].astype(np.float32), target_opset=17)
    inspection = found(file, converted.SerializeToString(), "model.pkl")
    assert inspection.format is Format.ONNX
    assert inspection.facts["opset"] == "17"
    assert inspection.facts["inputs"] == "X"
    assert inspection.facts["outputs"] == "output_label, output_probability"
    assert inspection.facts["producer"].startswith("skl2onnx")
    assert pins(inspection).keys() == {"onnxruntime", "numpy"}


def test_an_empty_file_says_so(file: Path) -> None:
    with pytest.raises(BadInput, match="The file is empty"):
        found(file, b"", "model.pkl")


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names or ["data.pkl"]:
            archive.writestr(name, b"\x80\x04N.")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pkl"), io.BytesIO())
    return buffer.getvalue()


SAFETENSORS = (26).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}     ' + bytes(16)


@pytest.mark.parametrize("filename", ["model.onnx", "model.bin", "model"])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML"),
        (b'\n<html lang="en"></html>', "HTML"),
        (b'<?xml version="1.0"?><PMML/>', "XML"),
        (json.dumps({"tree_info": []}).encode(), "JSON"),
        (b'[{"a": 1}]', "JSON"),
        (zipped(), "a zip archive without a model"),
        pytest.param(gzip.compress(zipped(), mtime=0), "a zip archive without a model", id="a zip archive in gzip"),
        (zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras model"),
        (zipped("arr_0.npy"), "numpy arrays"),
        (gzip.compress(b"X\n\x00\x00\x00\x03\x00\x04", mtime=0), "an object of R"),
        (b"RDX3\nX\n", "a workspace of R"),
        (tarred(), "tar"),
        (gzip.compress(tarred(), mtime=0), "tar"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"age,city\n41,Oslo\n", "CSV"),
        (b"Id\tcity\n41\tOslo\n", "CSV"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs"),
        (b"PAR1" + bytes(20), "Parquet"),
        (SAFETENSORS, "safetensors"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x93NUMPY\x01\x00", "numpy array"),
        (b"Some notes of mine.", "text"),
        (bytes(range(200, 256)) * 9, "not a format that PRISM knows"),
    ],
)
def test_other_files_are_named_for_what_they_are(content: bytes, name: str, filename: str, file: Path) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        found(file, content, filename)
    assert name in caught.value.detail
    assert filename in caught.value.detail
    for served in (".pkl", ".pickle", ".joblib", ".onnx"):
        assert served in caught.value.hint


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pd.DataFrame({"a": [1]}), "a pandas DataFrame"),
        (pd.Series([1]), "a pandas Series"),
        (np.arange(3.0), "a numpy array"),
        ({"model": 1}, "a dict"),
        (collections.OrderedDict(a=1), "a dict"),
        ([1], "a list"),
        ((1, 2), "a tuple"),
        ("text", "a text"),
    ],
)
def test_a_pickle_of_data_is_told_from_a_model(file: Path, data: Any, what: str, protocol: int) -> None:
    with pytest.raises(UnsupportedFormat, match=f"holds {what}, not a model") as caught:
        found(file, pickle.dumps(data, protocol), "data.pkl")
    assert "joblib.dump" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"age,city\n41,Oslo\n", "`prism predict NAME -f FILE`"),
        (b"PAR1" + bytes(20), "`prism predict NAME -f FILE`"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "model.export('model.onnx', format='onnx')"),
        (zipped("config.json", "model.weights.h5"), "model.export('model.onnx', format='onnx')"),
        (b"RDX3\nX\n", "`xgb.save` or `lgb.save`"),
    ],
)
def test_what_is_no_model_names_the_next_step(file: Path, content: bytes, hint: str) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        found(file, content, "model")
    assert hint in caught.value.hint


def test_an_array_of_joblib_is_told_from_a_model(file: Path) -> None:
    joblib.dump(np.arange(3.0), file)
    with pytest.raises(UnsupportedFormat, match="holds a numpy array"):
        inspect(file, "data.joblib")


@pytest.mark.parametrize(
    ("content", "filename", "what"),
    [
        (b"import pickle\nprint(1)\n", "train.txt", "Python source"),
        (b"# my script\n\nclass Model:\n    pass\n", "script", "Python source"),
        (b"x = 1\n", "train.py", "Python source"),
        (b'{"cells": []}', "train.ipynb", "a notebook"),
    ],
)
def test_source_is_told_from_a_model(file: Path, content: bytes, filename: str, what: str) -> None:
    with pytest.raises(UnsupportedFormat, match=f"is {what}") as caught:
        found(file, content, filename)
    assert "push the model that it saves" in caught.value.hint


def test_a_cut_pickle_is_refused_wherever_it_is_cut(model: Any, file: Path) -> None:
    for protocol in (0, 5):
        whole = pickle.dumps(model, protocol)
        for length in range(2, len(whole), 23):
            with pytest.raises(UnreadableArtifact):
                found(file, whole[:length], "model.pkl")


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_a_model_of_lightgbm_with_categories_needs_pandas(file: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(40.0), "b": pd.Categorical(["u", "v", "w", "u"] * 10)})
    with_categories = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(frame, [0, 1] * 20)
    (pin,) = (pin for pin in found(file, pickle.dumps(with_categories), "m.pkl").pins if pin.distribution == "pandas")
    assert pin.evidence == "LightGBM was trained on categories of pandas (`pandas_categorical`)"
    without = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(frame.drop(columns="b").to_numpy(), [0, 1] * 20)
    assert "pandas" not in pins(found(file, pickle.dumps(without), "model.pkl"))


@pytest.mark.parametrize(
    ("end", "version"),
    [
        (b"\x07version[#L\0\0\0\0\0\0\0\x03i\x03i\x02i\x00}}", "3.2.0"),
        (b"\x07version[#L\0\0\0\0\0\0\0\x03i\x01I\x01\x00U\xff}", "1.256.255"),
        (b'"version":[1,7,6]}', "1.7.6"),
        (b'"version": [1, 7, 6]}}', "1.7.6"),
        (b'"version":[1,7]}', ""),
        (b'"version":[1,7,6]} and more', ""),
        (b"\0" * 30, ""),
    ],
)
@pytest.mark.parametrize("protocol", [4, 5])
def test_the_version_of_xgboost_is_read_in_its_booster(file: Path, end: bytes, version: str, protocol: int) -> None:
    content = bytes(1000) + end
    handle = (
        b"B" + len(content).to_bytes(4, "little") if protocol == 4 else b"\x96" + len(content).to_bytes(8, "little")
    )
    pickled = b"\x80%bcxgboost.core\nBooster\n)\x81}\x8c\x06handle" % bytes([protocol]) + handle + content + b"sb."
    (pin,) = found(file, pickled, "model.pkl").pins
    assert pin.specifier == (f"=={version}" if version else "")
    assert (version or "does not say") in pin.evidence


UBJSON = b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\nattributes{"
VERSION = b"}L\0\0\0\0\0\0\0\x07version[#L\0\0\0\0\0\0\0\x03i\x03i\x02i\0}"


@pytest.mark.parametrize(
    ("content", "format", "needs"),
    [
        (UBJSON + bytes(500) + VERSION, Format.XGBOOST, ["xgboost==3.2.0"]),
        (UBJSON + b"scikit_learn" + bytes(500) + VERSION, Format.XGBOOST, ["xgboost==3.2.0", "scikit-learn"]),
        (UBJSON + bytes(500), Format.XGBOOST, ["xgboost"]),
        (b'{"learner":{"a":1},"version":[1,7,6]}', Format.XGBOOST, ["xgboost==1.7.6"]),
        (b"tree\nversion=v4\nnum_class=1\n\npandas_categorical:[]\n", Format.LIGHTGBM, ["lightgbm>=4"]),
        (b'tree\nversion=v3\n\npandas_categorical:[["a"]]\n', Format.LIGHTGBM, ["lightgbm>=2.3", "pandas"]),
        (b"tree\nversion=v9\n", Format.LIGHTGBM, ["lightgbm"]),
        (b"CBM1\xc8i\x00\x00\x10\x00", Format.CATBOOST, ["catboost"]),
        (b'{\n  "features_info":\n    {', Format.CATBOOST, ["catboost"]),
    ],
)
def test_a_booster_in_its_librarys_own_format_needs_that_library(
    file: Path, content: bytes, format: Format, needs: list[str]
) -> None:
    inspection = found(file, content, "model.any")
    assert inspection.format is format
    assert [pin.requirement for pin in inspection.pins] == needs
    refuse_unusable(inspection, allow_unsafe=False)


@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
def test_reading_runs_nothing(dump: Any, file: Path, tmp_path: Path) -> None:
    with file.open("wb") as opened:
        dump([np.arange(10), Attack(tmp_path / "ran")], opened)
    inspection = inspect(file, "model.pkl")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UnsafeArtifact):
        refuse_unusable(inspection, allow_unsafe=False)


def test_dangers_are_named_with_the_way_to_consent(file: Path) -> None:
    inspection = found(file, b"cos\nsystem\n(S'true'\ntR.", "model.pkl")
    assert any("system" in line for line in inspection.second_opinion)
    with pytest.raises(UnsafeArtifact) as caught:
        refuse_unusable(inspection, allow_unsafe=False)
    assert "system" in caught.value.detail
    assert inspection.dangers[0].reason in caught.value.detail
    assert "`--allow-unsafe`" in caught.value.hint
    assert "recorded" in caught.value.hint
    assert caught.value.values["dangers"][0]["name"] == inspection.dangers[0].name
    refuse_unusable(inspection, allow_unsafe=True)


@pytest.mark.parametrize(("content", "is_function"), [(b"cfeatures\nlogs\n.", True), (b"cfeatures\nlogs\n)R.", False)])
def test_a_function_of_ones_own_is_harmless_unless_loading_calls_it(
    file: Path, content: bytes, is_function: bool
) -> None:
    (danger,) = found(file, b"\x80\x04" + content, "model.pkl").dangers
    assert (danger.name, danger.package, danger.is_function) == ("features.logs", "", is_function)


def test_missing_classes_are_named_with_the_way_to_supply_them(file: Path) -> None:
    inspection = found(file, b"c__main__\nScaler\n)R.", "model.pkl")
    assert inspection.missing_code == ("__main__.Scaler",)
    with pytest.raises(MissingCode) as caught:
        refuse_unusable(inspection, allow_unsafe=True)
    assert "`__main__.Scaler`" in caught.value.detail
    assert "`--code`" in caught.value.detail
    assert "does not run" in caught.value.hint
    assert caught.value.values["missing"] == ["__main__.Scaler"]
    with pytest.raises(MissingCode, match=r"`train\.py` does not either"):
        refuse_unusable(inspection, allow_unsafe=False, code_files=("train.py",))


def test_a_harmless_model_is_not_refused() -> None:
    refuse_unusable(Inspection(Format.PICKLE), allow_unsafe=False)
    refuse_unusable(Inspection(Format.PICKLE, dangers=(UnsafeGlobal("a.b", "c"),)), allow_unsafe=True)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(min_size=1, max_size=80), name=st.sampled_from(["m.pkl", "m.joblib", "m.onnx", "m"]))
def test_any_bytes_are_inspected_or_refused(
    content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with contextlib.suppress(BadInput):
        found(tmp_path_factory.getbasetemp() / "bytes", content, name)


def test_picklescan_is_not_asked_about_large_files(file: Path) -> None:
    inspection = found(file, pickle.dumps(bytes(9 << 20)), "model.pkl")
    assert "not used" in inspection.second_opinion[0]
