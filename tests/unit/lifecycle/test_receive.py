from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BadInput, PrismError, TooLarge, UnsupportedFormat
from app.lifecycle.receive import receive, safe_filename

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
async def test_files_and_texts_arrive_whole_however_the_body_is_cut(tmp_path: Path, size: int) -> None:
    content = os.urandom(3000) + b"\r\n--" + BOUNDARY.encode()[:-1] + os.urandom(100)
    body = form(
        part("model_name", "Zürich".encode()),
        part("file", content, "my model.pkl"),
        part("code_files", b"class A: ...\n", "shapes.py"),
    )
    upload = await receive(pieces(body, size), TYPE, len(body), tmp_path, LIMIT)
    assert upload.texts == {"model_name": "Zürich"}
    assert upload.artifact_path.read_bytes() == content
    assert upload.artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert upload.artifact.size_bytes == len(content)
    assert upload.artifact.filename == "my_model.pkl"
    assert (upload.folder / "code" / "shapes.py").read_bytes() == b"class A: ...\n"


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (form(), BadInput, "no `file`"),
        (form(part("file", b"x", "a.pkl"), part("model_nam", b"x")), BadInput, "Did you mean `model_name`"),
        (form(part("file", b"not a file")), BadInput, "mind the @"),
        (form(part("file", b"x", "a.pkl"), part("file", b"x", "b.pkl")), BadInput, "more than one"),
        (form(part("file", b"x", "a.pkl"))[:-4], BadInput, "closing boundary"),
        (form(part("file", b"x" * (LIMIT + 1), "a.pkl")), TooLarge, "PRISM_MAX_UPLOAD_MB"),
        (form(part("file", b"x", "a.pkl"), part("model_name", b"\xff")), BadInput, "not UTF-8"),
        (form(part("file", b"x", "a.pkl"), part("code_files", b"x", "run.sh")), BadInput, "Python"),
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
