"""Files made to be read one way here and another way by joblib, or to run code through harmless names.

Those that have a command did run it in `joblib.load` when this was written, but where their name says otherwise.
"""

from __future__ import annotations

import functools
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from scipy.interpolate import BSpline
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import FunctionTransformer

from app.artifact.archives.compression import Stream
from app.artifact.pickles import PickleReading, read_pickle
from app.artifact.unsafe_globals import dangers_of
from app.errors import UnreadableArtifact

WRAPPER = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"
POPEN = b"cpsutil\nPopen\n"


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def dtype(code: str) -> bytes:
    return b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R"


def description(size: int, dtype_opcodes: bytes = dtype("u1"), more: bytes = b"") -> bytes:
    """The state of an array of `size` items, as joblib writes it, and what an attacker adds to it."""
    return (
        b"}(" + text("shape") + b"K" + bytes([size]) + b"\x85" + text("order") + text("C") + text("subclass")
        + b"cnumpy\nndarray\n" + text("dtype") + dtype_opcodes + text("allow_mmap") + b"\x89"
        + text("numpy_array_alignment_bytes") + b"N" + more + b"u"
    )  # fmt: skip


def attacks(mark: Path) -> dict[str, bytes]:
    run = b"cposix\nsystem\n" + text(f"touch {mark}") + b"\x85R"
    command = b"](" + text("touch") + text(str(mark)) + b"e"
    hidden = b"bC" + bytes([len(run) + 1]) + run + b"00."  # joblib takes C and its length for the array
    flags_by_version = (
        dtype("V8") + b"(K\x02" + text("|") + b"N" + text("a") + b"\x85}" + text("a") + dtype("O8")
        + b"K\x00\x86sK\x08K\x01K\x00tb"
    )  # fmt: skip
    nested = b"\x80\x02" + run + b"." + b" " * (-len(run) % 8)
    shared = b"cnumpy\ndtype\nh\x00\x89\x89\x87R(K\x03" + text("|") + b"NNNK\x01K\x01K\x3ftb0"
    return {
        "an array whose `read` is replaced": WRAPPER + b")\x81"
        + description(len(run) + 1, more=text("read") + b"coperator\nitemgetter\n") + b"b" + run + b"0.",
        "a wrapper made by copyreg from a list": b"ccopyreg\n__newobj__\n]" + WRAPPER + b"aR" + description(2) + hidden,
        "a wrapper class given back by max": b"ccopyreg\n_reconstructor\ncbuiltins\nmax\n](" + WRAPPER
        + b"e\x85Rcbuiltins\nobject\nN\x87R" + description(2) + hidden,
        "a wrapper given back by max": b"cbuiltins\nmax\n](" + WRAPPER + b")\x81e\x85R" + description(2) + hidden,
        "a dtype whose flags numpy computes": WRAPPER + b")\x81" + description(len(nested) // 8, flags_by_version)
        + b"b" + nested + b".",
        "a dtype shared under two names (never worked)": dtype("u1") + b"q\x00" + shared + WRAPPER + b")\x81"
        + description(2, b"h\x00") + b"b" + b"\x00\x00.",
        "a class that starts a program": POPEN + command + b"\x85R.",
        "a class called as a base": b"ccopyreg\n_reconstructor\n" + POPEN * 2 + command + b"\x87R.",
        "a function made and then called": b"cfunctools\npartial\n" + POPEN + command + b"\x86R)R.",
        "a class handed to numpy (called by numpy 1)": b"cnumpy.random._pickle\n__generator_ctor\n" + text("true")
        + POPEN + b"\x86R.",
        "the tests of a library": b"cscipy.special\ntest\n)R.",
        "a parser of pandas that evaluates": b"cpandas.core.computation.expr\nExpr\n(" + text("1") + text("python") + b"tR.",
        "a class changed for all": b"csklearn.base\nBaseEstimator\nN}" + text("fit") + b"cnumpy\nlog1p\ns\x86b.",
        "a module changed for all": b"csklearn.utils.extmath\nnp\n}" + text("pi") + b"K\x03sb.",
        "a thread of another library's namespace": b"csklearn.callback._progressbar\nThread\n)R.",
    }  # fmt: skip


def read(content: bytes, folder: Path) -> PickleReading:
    path = folder / "artifact"
    path.write_bytes(content)
    with Stream(path) as stream:
        return read_pickle(stream)


@pytest.mark.parametrize("way", list(attacks(Path("x"))))
def test_an_attack_is_refused_or_named_and_runs_nothing(tmp_path: Path, way: str) -> None:
    mark = tmp_path / "mark"
    try:
        dangers = dangers_of(read(b"\x80\x02" + attacks(mark)[way], tmp_path))
    except UnreadableArtifact:
        dangers = None
    assert dangers is None or (dangers and all(danger.reason for danger in dangers))
    assert not mark.exists()


def test_a_class_is_harmless_when_restored_and_needs_consent_when_called(tmp_path: Path) -> None:
    restored = read(b"\x80\x02cxgboost.sklearn\nXGBModel\n)\x81}b.", tmp_path)
    called = read(b"\x80\x02cxgboost.sklearn\nXGBModel\n)R.", tmp_path)
    assert dangers_of(restored) == ()
    assert [danger.name for danger in dangers_of(called)] == ["xgboost.sklearn.XGBModel"]


def test_a_class_of_a_package_that_nobody_vouches_for_needs_consent_and_names_the_package(tmp_path: Path) -> None:
    (restored,) = dangers_of(read(b"\x80\x02cmylibrary.models\nModel\n)\x81}b.", tmp_path))
    assert (restored.name, restored.package) == ("mylibrary.models.Model", "mylibrary")
    (called,) = dangers_of(read(b"\x80\x02cmylibrary\nModel\n)R.", tmp_path))
    assert (called.name, called.package) == ("mylibrary.Model", "")


FRAME = pd.DataFrame(
    {"number": [1.0, 2, 3, 4] * 5, "kind": list("xyzx") * 5, "category": pd.Categorical(list("uvuv") * 5)}
    | {"time": pd.date_range("2026-01-01", periods=20, tz="UTC")}
)


@pytest.mark.parametrize(
    "value",
    [
        FRAME,
        FRAME.set_index(["kind", "number"]),
        pd.cut(FRAME.number, 2),
        pd.period_range("2026", periods=3),
        [pd.Timestamp("2026-01-01", tz="UTC"), pd.Timedelta("1D"), pd.array([1, None], dtype="Int64")],
        [np.float64(1), np.str_("a"), np.datetime64("2026"), np.dtype("M8[ns]"), np.ma.masked_array([1, 2], [0, 1])],
        [np.random.default_rng(0), np.random.RandomState(0)],
        [scipy.sparse.csr_matrix(np.eye(2)), scipy.sparse.coo_array(np.eye(2)), BSpline([0, 1, 2, 3], [1, 2], 1)],
        [FunctionTransformer(np.log1p), FunctionTransformer(functools.partial(np.clip, 0, 1)), slice(1, 2), {1, 2}],
        HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=2).fit(
            FRAME[["number", "category"]], [0, 1] * 10
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_models_hold_needs_no_consent(tmp_path: Path, value: Any) -> None:
    file = io.BytesIO()
    joblib.dump(value, file)
    for content in (pickle.dumps(value, 2), pickle.dumps(value, 5), file.getvalue()):
        assert dangers_of(read(content, tmp_path)) == ()


@pytest.mark.parametrize(
    "opcodes",
    [b"}\x940" * 2000, b"N" + b"\x85" * 2000 + b"0", b"N" * 2000, b"N0" * 9000, (b"\x8c\xff" + b"a" * 255 + b"0") * 99],
    ids=["memo", "nesting", "stack", "time", "text"],
)
def test_a_decompression_bomb_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opcodes: bytes) -> None:
    monkeypatch.setattr("app.artifact.pickles.walker.MAX_OBJECTS", 1500)
    monkeypatch.setattr("app.artifact.pickles.walker.MAX_OPCODES", 15000)
    monkeypatch.setattr("app.artifact.pickles.walker.MAX_TEXTS_BYTES", 20000)
    with pytest.raises(UnreadableArtifact, match="than any model"):
        read(zlib.compress(b"\x80\x04" + opcodes + b"N."), tmp_path)
