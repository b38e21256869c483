"""What `predict` sends for a file, an image and anything else."""

from __future__ import annotations

from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from prism.errors import InvalidRequest
from prism.requests import predict

PNG = b"\x89PNG\r\n\x1a\nrest"
JPEG = b"\xff\xd8\xff\xe0rest"
WEBP = b"RIFF\x00\x00\x00\x00WEBPrest"


class PillowImage:
    """An image as Pillow offers it, which is no dependency of the SDK."""

    def __init__(self, mode: str = "RGB") -> None:
        self._mode = mode

    def getbands(self) -> tuple[str, ...]:
        return tuple(self._mode)

    def save(self, file: Any, format: str) -> None:
        if self._mode == "CMYK":
            raise OSError("cannot write mode CMYK as PNG")
        file.write(PNG + format.encode())


def sent(data: Any) -> tuple[str, bytes | None]:
    call = predict("digits", data)
    with call.content() as arguments:
        assert arguments == {"content": call.body, "headers": {"Content-Type": call.content_type}}
    return call.content_type, call.body


@pytest.mark.parametrize(("content", "kind"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp")])
def test_an_image_is_sent_as_it_is(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "an image.png"
    path.write_bytes(content)
    assert sent(content) == sent(path) == sent(str(path)) == (kind, content)
    assert sent(PillowImage()) == ("image/png", PNG + b"PNG")


def test_anything_else_is_json(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_bytes(b"[1]")
    assert sent(tmp_path / "body.json") == sent(b"[1]") == sent([1]) == ("application/json", b"[1]")
    assert sent("cat.png") == ("application/json", b'"cat.png"')
    assert sent([]) == ("application/json", b"[]")


def test_several_images_are_a_form_of_rows(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    kind, body = sent([tmp_path / "a.png", JPEG, PillowImage()])
    assert body is not None
    form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    parts: Any = form.get_payload()
    assert [part.get_payload(decode=True) for part in parts] == [PNG, JPEG, PNG + b"PNG"]
    assert [part.get_content_type() for part in parts] == ["image/png", "image/jpeg", "image/png"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Path("/absent/cat.png"), "/absent/cat.png cannot be read: No such file"),
        (PillowImage("CMYK"), "The image cannot be read: cannot write mode CMYK"),
        ([PNG, Path(__file__)], "File 1 is not a PNG"),
    ],
)
def test_a_file_that_cannot_be_sent_is_named(data: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        predict("digits", data)
