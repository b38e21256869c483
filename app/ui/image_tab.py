"""The image tab of the predict page: what the model makes of an image, and the one that was sent."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from msgspec import Struct

from model_container.contract.image_input import ImageInput

FIELD = "image"
"""Name of the form's file field, and of the tab."""

SAMPLE_VALUES_MAX = 1024
"""Longest sample that the other tabs show for a model that takes images; a larger one is megabytes of numbers."""

PREVIEW_BYTES_MAX = 4 << 20
STARTS = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff", "image/webp": b"RIFF"}
"""Content types that browsers and models read, each with a file's first bytes."""


class ImageTab(Struct, frozen=True):
    """Tab of a model that takes images. described: what is made of one. body: the one that was sent, None for none.

    wrong: what is wrong with it.
    """

    described: str
    body: bytes | None = None
    wrong: str = ""

    @property
    def preview(self) -> str:
        """The image as a data URL; "" if there is none, if it is large, or if it is no image."""
        kinds = [kind for kind, start in STARTS.items() if self.body is not None and self.body.startswith(start)]
        if self.body is None or not kinds or len(self.body) > PREVIEW_BYTES_MAX:
            return ""
        return f"data:{kinds[0]};base64,{base64.b64encode(self.body).decode()}"


def image_tab(wanted: ImageInput | None) -> ImageTab | None:
    return None if wanted is None else ImageTab(wanted.described)


def sent_image(tab: ImageTab, text: str) -> ImageTab:
    """Return the tab with the image that was sent. text: the file as the form's texts hold it, in base64."""
    try:
        body = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        body = b""
    return ImageTab(tab.described, body) if body else ImageTab(tab.described, None, "Choose an image first.")


def is_shown(sample: Any) -> bool:
    """Return whether the other tabs show a sample of a model that takes images."""
    left = SAMPLE_VALUES_MAX
    pending = [sample]
    while pending and left:
        value = pending.pop()
        if isinstance(value, (list, dict)):
            pending.extend(value.values() if isinstance(value, dict) else value)
        else:
            left -= 1
    return left > 0
