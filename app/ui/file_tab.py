"""The tab of the predict page for an image or a sound: what the model makes of the file, and the one that was sent."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from msgspec import Struct

from model_container.contract.file_input import FileInput
from model_container.contract.file_types import AUDIO, IMAGE, content_types, file_type_of
from model_container.contract.image_input import ImageInput

SAMPLE_VALUES_MAX = 1024
"""Longest sample that the other tabs show for a model that takes files; a larger one is megabytes of numbers."""

PREVIEW_BYTES_MAX = 4 << 20
TITLES = {IMAGE: "Image", AUDIO: "Sound"}
FORMATS = {IMAGE: "PNG, JPEG or WebP", AUDIO: "WAV"}


class FileTab(Struct, frozen=True):
    """Tab of a model that takes files. kind: IMAGE or AUDIO, also the name of the form's field and of the tab.

    described: what is made of a file. body: the one that was sent, None for none. wrong: what is wrong with it.
    """

    kind: str
    described: str
    body: bytes | None = None
    wrong: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.kind]

    @property
    def formats(self) -> str:
        return FORMATS[self.kind]

    @property
    def accepts(self) -> str:
        """The content types to choose from, as HTML's `accept`."""
        return ",".join(content_types(self.kind))

    @property
    def preview(self) -> str:
        """The file as a data URL; "" if there is none, if it is large, or if it is none of the kind."""
        file_type = None if self.body is None else file_type_of(self.body)
        if self.body is None or file_type is None or file_type.kind != self.kind or len(self.body) > PREVIEW_BYTES_MAX:
            return ""
        return f"data:{file_type.content_type};base64,{base64.b64encode(self.body).decode()}"


def file_tab(wanted: FileInput | None) -> FileTab | None:
    if wanted is None:
        return None
    return FileTab(IMAGE if isinstance(wanted, ImageInput) else AUDIO, wanted.described)


def sent_file(tab: FileTab, text: str) -> FileTab:
    """Return the tab with the file that was sent. text: the file as the form's texts hold it, in base64."""
    try:
        body = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        body = b""
    wrong = "" if body else f"Choose {'an image' if tab.kind == IMAGE else 'a sound'} first."
    return FileTab(tab.kind, tab.described, body or None, wrong)


def is_shown(sample: Any) -> bool:
    """Return whether the other tabs show a sample of a model that takes files."""
    left = SAMPLE_VALUES_MAX
    pending = [sample]
    while pending and left:
        value = pending.pop()
        if isinstance(value, (list, dict)):
            pending.extend(value.values() if isinstance(value, dict) else value)
        else:
            left -= 1
    return left > 0
