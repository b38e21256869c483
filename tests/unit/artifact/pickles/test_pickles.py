"""Real artifacts read to their end, hostile ones caught, and nothing run."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators

from app.artifact.archives.compression import Stream
from app.artifact.pickles import PickleReading, read_pickle
from app.artifact.unsafe_globals import danger, dangers_of, missing_code_of
from app.errors import PrismError, UnreadableArtifact

COMPRESSIONS = [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 1), ("xz", 1), ("lz4", 3)]


def read(content: bytes, folder: Path) -> PickleReading:
    path = folder / "artifact"
    path.write_bytes(content)
    with Stream(path) as stream:
        return read_pickle(stream)


def joblib_bytes(model: object, compress: Any = 0) -> bytes:
    file = io.BytesIO()
    joblib.dump(model, file, compress=compress)
    return file.getvalue()


def fitted() -> list[tuple[str, Any]]:
    x = np.abs(np.random.default_rng(0).random((40, 4)))
    y = np.arange(40) % 2
    models = []
    for name, kind in all_estimators():
        try:
            try:
                model = kind()
            except TypeError:
                model = kind(LogisticRegression())
            models.append((name, model.fit(x, y)))
        except Exception:  # not trainable on this small set
            continue
    return models


@pytest.fixture(scope="module")
def estimators() -> list[tuple[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fitted()


def test_every_trainable_estimator_is_read_with_its_exact_version_and_no_danger(
    estimators: list[tuple[str, Any]], tmp_path: Path
) -> None:
    import sklearn

    assert len(estimators) > 150
    for index, (name, model) in enumerate(estimators):
        compression = COMPRESSIONS[index % len(COMPRESSIONS)]
        for content in (
            pickle.dumps(model),
            pickle.dumps(model, 2),
            joblib_bytes(model),
            joblib_bytes(model, compression),
        ):
            reading = read(content, tmp_path)
            assert reading.sklearn_versions == (sklearn.__version__,), name
            assert dangers_of(reading) == (), name


@pytest.mark.parametrize("protocol", range(6))
def test_each_protocol_is_understood(tmp_path: Path, protocol: int) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["a good one", "a bad one"], ["good", "bad"])
    reading = read(pickle.dumps(model, protocol), tmp_path)
    assert "sklearn.pipeline.Pipeline" in reading.globals
    assert "sklearn.linear_model._logistic.LogisticRegression" in reading.globals


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_arrays_of_every_kind_are_skipped_exactly(tmp_path: Path, compress: Any) -> None:
    arrays = [
        np.arange(5.0),
        np.asfortranarray(np.ones((3, 4), "f4")),
        np.array(["a", "längst", None], object),
        np.array(["short", "a longer text"]),
        np.array([b"bytes", b"b"]),
        np.zeros(0),
        np.array(7),
        np.array([True, False]),
        np.array(["2026-01-01"], "M8[ns]"),
        np.array([(1, 2.0, "x")], [("a", "i4"), ("b", "f8"), ("c", "U3")]),
        np.array([1 + 2j]),
    ]
    end = {"_sklearn_version": "9.9"}
    reading = read(joblib_bytes([*arrays, end], compress), tmp_path)
    assert reading.sklearn_versions == ("9.9",), "what stands behind the arrays was read"
    assert reading.arrays == len(arrays)


def test_names_of_columns_are_found_in_pickle_and_in_joblib(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"age": [1.0, 2.0], "fare": [3.0, 4.0]})
    model = LogisticRegression().fit(frame, [0, 1])
    for content in (pickle.dumps(model), joblib_bytes(model)):
        assert read(content, tmp_path).feature_names == ("age", "fare")


def test_cloudpickled_code_tells_its_python_and_needs_consent(tmp_path: Path) -> None:
    def predict(rows: Any) -> Any:
        return rows

    reading = read(cloudpickle.dumps(predict), tmp_path)
    assert reading.code_arguments == (18,)
    assert any(each.name.startswith("cloudpickle") for each in dangers_of(reading))


def test_classes_of_the_training_script_are_missing_code(tmp_path: Path) -> None:
    script = "import pickle, sys\nclass Mine: pass\nsys.stdout.buffer.write(pickle.dumps([Mine()]))"
    content = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout
    assert missing_code_of(read(content, tmp_path).globals) == ("__main__.Mine",)


def hostile(mark: Path) -> dict[str, bytes]:
    """Files that would run `touch mark` when loaded, each by another way."""
    command = f"touch {mark}".encode()
    call = b"X" + len(command).to_bytes(4, "little") + command + b"\x85R."

    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (command.decode(),)

    behind_an_array = joblib_bytes([np.arange(1000.0), Evil()])
    in_an_object_array = joblib_bytes(np.array([1, Evil()], object))
    return {
        "plain": pickle.dumps(Evil()),
        "protocol 0": pickle.dumps(Evil(), 0),
        "GLOBAL": b"\x80\x02cos\nsystem\n" + call,
        "INST": b"(S'" + command + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nX" + len(command).to_bytes(4, "little") + command + b"o.",
        "Python 2 name": b"c__builtin__\neval\n" + call,
        "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93" + call,
        "through the memo": b"\x80\x04" + text("os") + b"\x94" + text("system") + b"\x9400" + b"h\x00h\x01\x93" + call,
        "a path of attributes": b"\x80\x04" + text("sklearn") + text("base.os.system") + b"\x93" + call,
        "behind an array": behind_an_array,
        "in an object array": in_an_object_array,
        "compressed": joblib_bytes([np.arange(1000.0), Evil()], ("gzip", 3)),
    }


@pytest.mark.parametrize("way", list(hostile(Path("x"))))
def test_hostile_files_are_caught_and_run_nothing(tmp_path: Path, way: str) -> None:
    mark = tmp_path / "mark"
    reading = read(hostile(mark)[way], tmp_path)
    assert dangers_of(reading), reading.globals
    assert not mark.exists()


def frame(content: bytes) -> bytes:
    return b"\x95" + len(content).to_bytes(8, "little") + content


def wrapped_array(shape: bytes, end: bytes = b"") -> bytes:
    """The opcodes of a joblib array of bytes (dtype u1) without alignment, up to BUILD."""
    return (
        b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\x05\x00\x00\x00shape" + shape + b"X\x05\x00\x00\x00dtype"
        b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87RX\x1b\x00\x00\x00numpy_array_alignment_bytesN" + end + b"ub"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04" + frame(wrapped_array(b"K\x03\x85") + b"abc."),
        b"\x80\x02" + wrapped_array(b"K\x03\x85", b"cbuiltins\nstr\nX\x05\x00\x00\x00shape\x85RK\x09\x85") + b"abc.",
        b"\x80\x02" + wrapped_array(b"J\xff\xff\xff\xff\x85") + b"abc.",
        b"\x80\x02" + wrapped_array(b"cbuiltins\ntuple\n)R") + b"abc.",
        b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)R.",
        b"\x80\x02ccopyreg\n_reconstructor\ncjoblib.numpy_pickle\nNumpyArrayWrapper\ncbuiltins\nobject\nN\x87R}b.",
        b"\x80\x04" + b"cbuiltins\nstr\n)R\x8c\x06system\x93.",
        b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00X\x09\x00\x00\x00abcdefghi.",
        b"\x82\x01.",
        b"Pid\n.",
        b"\x80\x05\x97.",
        b"\x80\x09N.",
        pickle.dumps(1) + b"more",
        b"\x80\x04NN.",
        b"\x80\x04.",
        b"\x80\x04\xff.",
    ],
    ids=[
        "an array inside a frame",
        "a key that is computed",
        "a negative shape",
        "a shape that is computed",
        "an array wrapper that is called",
        "an array wrapper made by copyreg",
        "a computed module name",
        "a frame that ends inside an opcode",
        "the extension registry",
        "persistent ids",
        "out-of-band buffers",
        "an unknown protocol",
        "bytes behind the end",
        "two values at the end",
        "no value at the end",
        "no opcode",
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableArtifact) as refused:
        read(content, tmp_path)
    assert "byte" in refused.value.detail


def test_the_plain_form_of_the_crafted_array_is_read(tmp_path: Path) -> None:
    assert read(b"\x80\x02" + wrapped_array(b"K\x03\x85") + b"abc.", tmp_path).arrays == 1


@pytest.fixture(scope="module")
def samples() -> list[bytes]:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["a good one", "a bad one"], ["good", "bad"])
    return [pickle.dumps(model), pickle.dumps(model, 0), joblib_bytes(model), joblib_bytes(model, ("zlib", 3))]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_truncated_file_is_never_accepted(
    samples: list[bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = data.draw(st.sampled_from(samples))
    cut = data.draw(st.integers(1, len(content) - 1))
    with pytest.raises(UnreadableArtifact):
        read(content[:cut], tmp_path_factory.getbasetemp())


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_flipped_bytes_are_read_or_give_a_clear_error(
    samples: list[bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PrismError):
        read(bytes(content), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("sklearn.ensemble._forest.RandomForestClassifier", True),
        ("numpy.log1p", True),
        ("xgboost.sklearn.XGBClassifier", True),
        ("lightgbm.sklearn.LGBMClassifier", True),
        ("collections.OrderedDict", True),
        ("mylibrary.models.Scorer", False),
        ("os.system", False),
        ("builtins.eval", False),
        ("builtins.getattr", False),
        ("numpy.load", False),
        ("numpy.testing._private.utils.runstring", False),
        ("pandas.io.pytables.HDFStore", False),
        ("sklearn.datasets._openml.OpenMLError", False),
        ("sklearn.metrics._scorer.partial", False),
        ("joblib.numpy_pickle.load", False),
        ("mylibrary.run", False),
        ("importlib.import_module", False),
    ],
)
def test_everything_not_known_to_be_harmless_is_dangerous(name: str, harmless: bool) -> None:
    assert (danger(name) == "") is harmless
