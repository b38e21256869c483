"""Bytecode tells its Python; the samples are `co_code` of the same functions under each interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from packaging.specifiers import SpecifierSet

from app.artifact.archives.compression import Stream
from app.artifact.pickles import PickleReading, read_pickle
from app.artifact.pickles.bytecode import python_of
from app.artifact.requirements import python_need_of

CALL = {
    "3.11": "97007401000000000000000000007c00a6010000ab0100000000000000005300",
    "3.12": "9700740100000000000000007c00ab010000000000005300",
    "3.13": "95005b010000000000000000550035010000000000002400",
}
GENERATOR = {
    "3.11": "4b00010097007c0056009701010064005300",
    "3.12": "4b00010097007c009601970101007900ad037701",
    "3.13": "2300200095005500760095052000670037036601",
}
CLOSURE = {
    "3.11": "950197007401000000000000000000007c00a6010000ab01000000000000000089017a0000005300",
    "3.12": "95019700740100000000000000007c00ab0100000000000089017a0000005300",
    "3.13": "3e0195005b0100000000000000005500350100000000000054012d0000002400",
}


@pytest.mark.parametrize("python", CALL)
@pytest.mark.parametrize("samples", [CALL, GENERATOR, CLOSURE], ids=["call", "generator", "closure"])
def test_bytecode_tells_the_python_that_compiled_it(samples: dict[str, str], python: str) -> None:
    specifier = SpecifierSet(python_of(bytes.fromhex(samples[python])))
    assert python in specifier
    assert not {"3.10", "3.13" if python != "3.13" else "3.12"} & set(specifier.filter(["3.10", "3.12", "3.13"]))


@pytest.mark.parametrize("code", [b"", b"\x01", b"\x00" * 8, b"\xff\xff", b"\x97"])
def test_unknown_bytecode_reveals_no_python_version(code: bytes) -> None:
    assert python_of(code) == ""


def test_a_cloudpickled_function_asks_for_the_python_it_was_made_with(tmp_path: Path) -> None:
    offset = 3

    def predict(rows: list[float]) -> Iterator[float]:
        yield from (round(row) + offset for row in rows)

    path = tmp_path / "model.pkl"
    path.write_bytes(cloudpickle.dumps(predict))
    with Stream(path) as stream:
        need = python_need_of(read_pickle(stream))
    assert need
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in SpecifierSet(need.specifier)
    assert "bytecode" in need.evidence


def test_an_exact_python_takes_precedence_over_a_range() -> None:
    reading = PickleReading(5, (), code_arguments=(18,), code_pythons=("==3.12.*", ">=3.11,<3.13"))
    need = python_need_of(reading)
    assert need
    assert need.specifier == "==3.12.*"
