"""Half characters and bytes that are no text, in whatever an artifact holds: made valid where they are read."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.api.documents import staged_document
from app.artifact.formats.yaml import read_yaml
from app.artifact.inspection import inspect
from app.errors import PrismError
from app.lifecycle.intake.staging import Staging
from app.lifecycle.models_folder.snapshot import take_snapshot, unserved_files
from tests.unit.lifecycle.house_lab import house
from tests.unit.lifecycle.intake.upload_lab import form

HALF = "\ud800".encode("utf-8", "surrogatepass")


def text(content: bytes) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content


NAMES = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt" + b"R(K\x01K\x01\x85N\x89]"
MODEL = b"\x80\x04csklearn.linear_model._base\nLinearRegression\n)\x81}"
ODD = {
    "a module": b"\x80\x04" + text(b"acme" + HALF) + text(b"Model") + b"\x93.",
    "a global": b"\x80\x04" + text(b"acme") + text(b"Model" + HALF) + b"\x93.",
    "by an escape": b"V\\ud800\n0cacme\nModel\n.",
    "a column": MODEL + text(b"feature_names_in_") + NAMES + text(b"age" + HALF) + b"atbsb.",
    "a version": MODEL + text(b"_sklearn_version") + text(b"1.0" + HALF) + b"sb.",
}


@pytest.mark.parametrize("way", ODD)
async def test_the_inspection_of_an_odd_file_can_be_encoded(way: str, tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, ODD[way]))
        document = staged_document(staged, await staging.refusals(staged))
        assert json.loads(msgspec.json.encode(document))["inspection"]["format"] == "pickle"
        assert json.dumps(document, ensure_ascii=False).encode()


def test_invalid_characters_in_a_column_name_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(ODD["a column"])
    assert inspect(tmp_path / "m.pkl", "m.pkl").facts["feature_names"] == "age�"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(r'{"a\ud800": "\udfff"}', {"a�": "�"}), (r'"\ud83d\ude00"', "😀"), (r'["\udc80"]', ["�"])],
)
def test_an_escape_in_yaml_is_valid_text_or_none(content: str, expected: Any, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content)
    assert read_yaml(tmp_path / "a.yaml") == expected


def test_two_keys_of_yaml_that_become_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(r'{"\ud800": 1, "\ud801": 2}')
    with pytest.raises(PrismError, match="twice"):
        read_yaml(tmp_path / "a.yaml")


def test_undecodable_names_in_the_models_folder_are_reported_and_skipped(tmp_path: Path) -> None:
    for path in (b"entry\xff/model.pkl", b"other/\xfemodel.pkl", b"good/model.pkl"):
        place = os.path.join(os.fsencode(tmp_path), path)
        os.makedirs(os.path.dirname(place))
        with open(place, "wb") as file:
            file.write(pickle.dumps({}))
    with open(os.fsencode(tmp_path) + b"/stray\xff.pkl", "wb"):
        pass
    found = take_snapshot(tmp_path)
    assert {name: bool(seen.problem) for name, seen in found.items()} == {"entry�": True, "other": True, "good": False}
    assert msgspec.json.encode([found, unserved_files(tmp_path)])
