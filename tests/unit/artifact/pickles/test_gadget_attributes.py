"""An object's own attributes in the place of what the unpickler asks it for: calls that no opcode of the file shows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Bunch

from app.artifact.archives.zip_index import Member
from app.artifact.pickles import PickleReading, read_pickle
from app.artifact.unsafe_globals import dangers_of
from app.errors import UnreadableArtifact

OBJECT = b"cscipy.optimize._optimize\nMemoizeJac\n)\x81"
CLASS = b"cscipy.integrate._cubature\nMapWrapper\n"  # given a number, it starts as many processes
PERIOD = b"cpandas.core.dtypes.dtypes\nPeriodDtype\n"
HOOK = b"Vappend\n" + CLASS
NUMPY_TEXT = (
    b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nVU4\nI00\nI01\n\x87RC\x10h\0\0\0o\0\0\0o\0\0\0k\0\0\0\x86R"
)


def reading(program: bytes) -> PickleReading:
    return read_pickle(Member(b"\x80\x04" + program + b"."))


@pytest.mark.parametrize(
    "program",
    [
        OBJECT + b"}" + HOOK + b"sb" + b"}b",
        OBJECT + b"}" + HOOK + b"sb" + b"I4\na",
        OBJECT + b"}" + HOOK + b"sb" + b"(I4\ne",
        OBJECT + b"}" + HOOK + b"sb" + b"(I4\n\x90",
        b"csklearn.utils._bunch\nBunch\n)\x81" + HOOK + b"s" + b"I4\na",
        b"csklearn.utils._bunch\nBunch\n)\x81" + NUMPY_TEXT + CLASS + b"s" + b"}b",
        PERIOD + PERIOD + b")\x81}" + HOOK + b"sb\x85\x81" + b"I4\na",
        b"csklearn.tree._tree\n__pyx_unpickle_Enum\n" + PERIOD + b"I1\n}\x87R" + b"}b",
    ],
    ids=["state", "append", "extend", "add", "entry", "computed entry", "given back", "state by a call"],
)
def test_an_object_with_chosen_attributes_may_not_be_extended(program: bytes) -> None:
    with pytest.raises(UnreadableArtifact, match=r"already has its state|state of an object twice"):
        reading(program)


@pytest.mark.parametrize("key", ["__setstate__", "__new__"])
def test_an_attribute_that_the_unpickler_calls_counts_as_called(key: str) -> None:
    dangers = dangers_of(reading(OBJECT + b"}V" + key.encode() + b"\n" + CLASS + b"sb"))

    assert [danger.name for danger in dangers] == ["scipy.integrate._cubature.MapWrapper"]
    assert "called while the file is loaded" in dangers[0].reason


def test_an_object_may_not_be_created_from_an_object() -> None:
    with pytest.raises(UnreadableArtifact, match="from something that is not a class"):
        reading(b"csklearn.metrics._dist_metrics\nnewObj\n" + OBJECT + b"\x85R")


@pytest.mark.parametrize("protocol", range(6))
def test_strings_and_entries_of_harmless_models_are_unchanged(protocol: int) -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], np.array(["append", "__new__"]))
    model.vocabulary_ = {"append": np.int64(1), "extend": 2, "__setstate__": 3}
    model.by_class_ = {name: LogisticRegression() for name in np.unique(["add", "append"])}
    model.bunch_ = Bunch(append=LogisticRegression(), rest=[1, 2])

    assert dangers_of(read_pickle(Member(pickle.dumps(model, protocol)))) == ()
