"""YAML of others: plain values, in the words that their writer sees, and nothing that grows without bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.artifact.formats.yaml import read_yaml
from app.errors import BadInput


def read(folder: Path, text: str | bytes) -> Any:
    path = folder / "model_config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path, texts=("python_version",))


def test_yaml_values_are_those_of_json(tmp_path: Path) -> None:
    text = "python_version: 3.10\naccelerate: off\nzip: 010\nday: 2024-01-01\nnone:\nhalf: .5\nmany: 1e3\nno: -3\nyes: true\n"
    assert read(tmp_path, text) == {
        "python_version": "3.10",
        "accelerate": "off",
        "zip": "010",
        "day": "2024-01-01",
        "none": None,
        "half": 0.5,
        "many": 1000.0,
        "no": -3,
        "yes": True,
    }
    assert read(tmp_path, "") is None
    assert read(tmp_path, "\ufeffa: [1, {b: c}]") == {"a": [1, {"b": "c"}]}
    assert read(tmp_path, "a: &x [1]\nb: *x") == {"a": [1], "b": [1]}


BILLION = "\n".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]" for below, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "'a' twice, line 2"),
        ("outer:\n  a: 1\n  a: 2", "'a' twice, line 3"),
        ("a: [1", "line 1"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: !!python/object/apply:os.system ['id']", "could not determine a constructor"),
        ("a: !!binary aGk=", "cannot express: bytes"),
        ("a: !!timestamp 2024-01-01", "cannot express: date"),
        ("a: !!set {b}", "cannot express: set"),
        ("? [1]\n: 2", "unhashable"),
        ("&a [*a]", "more than 100000 values"),
        ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + BILLION, "more than 100000 values"),
        ("[" * 5000, "nested too deep"),
        ("{a: " * 5000, "nested too deep"),
        ("a: \x07", "not allowed"),
        (b"a: \xff", "not UTF-8 text (byte 3)"),
        ("a: " + "x" * (1 << 20), "larger than 1 MiB"),
        ("a: 1" + "0" * 400, None),
    ],
)
def test_anything_but_a_plain_document_is_rejected_with_its_position(
    tmp_path: Path, text: str | bytes, words: str | None
) -> None:
    if words is None:
        assert isinstance(read(tmp_path, text)["a"], str)
        return
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    assert "model_config.yaml cannot be read" in caught.value.detail
    assert words in caught.value.detail
