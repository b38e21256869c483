from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BadInput, PrismError, TooLarge, UnsupportedFormat
from app.lifecycle.intake.multipart import safe_filename
from app.lifecycle.intake.receive import receive, remove_torn_uploads

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
LIMIT = 4 << 20


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 65536])
async def test_files_and_fields_arrive_complete_however_the_body_is_split(tmp_path: Path, size: int) -> None:
    content = os.urandom(3000) + b"\r\n--" + BOUNDARY.encode()[:-1] + os.urandom(100)
    body = form(
        part("model_name", "Zürich".encode()),
        part("file", content, "my model.pkl"),
        part("code_files", b"class A: ...\n", "shapes.py"),
    )
    received = await receive(pieces(body, size), TYPE, len(body), tmp_path, LIMIT)
    upload = received.upload()
    assert upload.texts == {"model_name": "Zürich"}
    assert (upload.folder / upload.artifact.file).read_bytes() == content
    assert upload.artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert upload.artifact.size_bytes == len(content)
    assert upload.artifact.filename == "my_model.pkl"
    assert (upload.folder / "code" / "shapes.py").read_bytes() == b"class A: ...\n"


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (form(part("file", b"x", "a.pkl"), part("model_nam", b"x")), BadInput, "Did you mean `model_name`"),
        (form(part("file", b"not a file")), BadInput, "note the @"),
        (form(part("file", b"x", "a.pkl"), part("file", b"x", "b.pkl")), BadInput, "more than one"),
        (form(part("file", b"x", "a.pkl"))[:-4], BadInput, "closing boundary"),
        (form(part("file", b"x" * (LIMIT + 1), "a.pkl")), TooLarge, "PRISM_MAX_UPLOAD_MB"),
        (form(part("file", b"x", "a.pkl"), part("model_name", b"\xff")), BadInput, "not UTF-8"),
        (form(part("file", b"x", "a.pkl"), part("code_files", b"x", "run.sh")), BadInput, "Python"),
        (form(part("file", b"x", "a.pkl"), part("code_files", b"x" * (4 << 20) + b"x", "a.py")), TooLarge, "4 MiB"),
        (form(part("file", b"x", "a.pkl"), part("code_files", b"x", "")), BadInput, "no name"),
        (form(part("review", b"1")), BadInput, "unknown field `review`"),
        (b"--wrong\r\n\r\n", BadInput, "cannot be read"),
        (b"", BadInput, "closing boundary"),
    ],
)
async def test_a_wrong_form_is_refused_and_leaves_nothing(
    tmp_path: Path, body: bytes, error: type[PrismError], said: str
) -> None:
    with pytest.raises(error) as refused:
        await receive(pieces(body, 4096), TYPE, None, tmp_path, LIMIT)
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_form_without_a_model_says_which_field_it_lacks(tmp_path: Path) -> None:
    received = await receive(pieces(form(part("upload_id", b"0123")), 4096), TYPE, None, tmp_path, LIMIT)
    assert received.texts == {"upload_id": "0123"}
    with pytest.raises(BadInput, match="no `file`") as refused:
        received.upload()
    assert refused.value.values["field"] == "file"


async def test_an_empty_file_field_counts_as_no_file(tmp_path: Path) -> None:
    """Browsers send a nameless, empty file for a field that was left alone."""
    body = form(part("file", b"x", "a.pkl"), part("code_files", b"", ""))
    received = await receive(pieces(body, 4096), TYPE, None, tmp_path, LIMIT)
    assert received.code_files == ()
    assert received.upload().artifact.filename == "a.pkl"


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("src/features.py", "src/features.py"),
        ("src\\deep\\features.py", "src/deep/features.py"),
        ("/home/me/my-project/src/features.py", "home/me/my_project/src/features.py"),
        ("../../src/features.py", "src/features.py"),
        ("..\\features.py", "features.py"),
        ("/etc/features.py", "etc/features.py"),
        ("train-v2.1.py", "train_v2_1.py"),
        ("2021-01/01 train.py", "_2021_01/_01_train.py"),
    ],
)
async def test_a_code_file_keeps_its_folders_and_gets_a_name_that_can_be_imported(
    tmp_path: Path, sent: str, stored: str
) -> None:
    body = form(part("file", b"x", "a.pkl"), part("code_files", b"x = 1", sent))
    received = await receive(pieces(body, 7), TYPE, None, tmp_path, LIMIT)
    assert received.code_files == (stored,)
    assert [path for path in tmp_path.rglob("*.py")] == [received.folder / "code" / stored]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("a/" * 20 + "b.py", "too long"),
        (f"{'a' * 250}.py", "too long"),
        ("notebooks/train.ipynb", "`notebooks/train.ipynb` cannot be imported"),
    ],
)
async def test_a_code_file_that_cannot_be_used_is_named(tmp_path: Path, sent: str, said: str) -> None:
    body = form(part("file", b"x", "a.pkl"), part("code_files", b"x = 1", sent))
    with pytest.raises(BadInput, match=said) as refused:
        await receive(pieces(body, 7), TYPE, None, tmp_path, LIMIT)
    assert refused.value.values["field"] == "code_files"
    assert list(tmp_path.iterdir()) == []


async def test_what_is_no_python_in_a_folder_of_code_is_left_out(tmp_path: Path) -> None:
    body = form(
        part("file", b"x", "a.pkl"),
        part("code_files", b"data" * 1000, "src/data.csv"),
        part("code_files", b"", "src/features.py"),
    )
    received = await receive(pieces(body, 7), TYPE, None, tmp_path, LIMIT)
    assert received.code_files == ("src/features.py",)
    assert len([path for path in received.folder.rglob("*") if path.is_file()]) == 2


async def test_a_form_is_no_larger_than_its_largest_file_and_its_fields(tmp_path: Path) -> None:
    parts = [part("code_files", b"x" * LIMIT, f"data/{number}.csv") for number in range(30)]
    with pytest.raises(TooLarge):
        await receive(pieces(form(*parts), 1 << 16), TYPE, None, tmp_path, LIMIT)
    assert list(tmp_path.iterdir()) == []


async def test_form_fields_are_known_even_if_a_code_file_is_refused(tmp_path: Path) -> None:
    texts: dict[str, str] = {}
    body = form(part("code_files", b"x", "run.sh"), part("model_name", b"iris"), part("file", b"x", "a.pkl"))
    with pytest.raises(BadInput) as refused:
        await receive(pieces(body, 7), TYPE, None, tmp_path, LIMIT, texts=texts)
    assert refused.value.values["field"] == "code_files"
    assert texts == {"model_name": "iris"}
    assert list(tmp_path.iterdir()) == []


async def test_a_page_may_have_fields_of_its_own(tmp_path: Path) -> None:
    body = form(part("review", b"1"))
    received = await receive(pieces(body, 7), TYPE, None, tmp_path, LIMIT, fields=("review",))
    assert received.texts == {"review": "1"}


def test_a_start_removes_incomplete_uploads_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a" * 12, "b" * 12, "c" * 12, "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / ("c" * 12) / "model.json").write_text("{}")
    remove_torn_uploads(tmp_path, known=["b" * 12])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b" * 12, "c" * 12, "notes"]


async def test_a_length_over_the_limit_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(TooLarge):
        await receive(untouched(), TYPE, 1 << 40, tmp_path, LIMIT)


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data", "text/plain; boundary=x"])
async def test_another_content_type_is_named(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(UnsupportedFormat, match="multipart/form-data"):
        await receive(pieces(b"x", 1), content_type, None, tmp_path, LIMIT)


@given(st.text(max_size=300))
@settings(max_examples=200)
def test_a_filename_never_leaves_its_folder(name: str) -> None:
    safe = safe_filename(name)
    assert safe
    assert "/" not in safe
    assert "\\" not in safe
    assert "\0" not in safe
    assert not safe.startswith(".")
    assert len(safe) <= 128


async def test_only_allow_packages_may_be_repeated_in_a_form(tmp_path: Path) -> None:
    body = form(part("allow_packages", b"a"), part("allow_packages", b"b,c"))
    received = await receive(pieces(body, 100), TYPE, len(body), tmp_path, LIMIT)
    assert received.texts["allow_packages"] == "a\nb,c"
    body = form(part("requirements", b"a"), part("requirements", b"b"))
    with pytest.raises(BadInput, match="twice"):
        await receive(pieces(body, 100), TYPE, len(body), tmp_path, LIMIT)
