"""Files of a multipart form, as browsers, curl and HTTP libraries send it; each file is a row.

The boundary is that of the body's first line, so nothing of the request's head is needed here (RFC 2046, 5.1.1).
"""

from __future__ import annotations

import re
from typing import List

from model_container.bodies.content import no_rows
from model_container.bodies.problems import Problem

FILES_MAX = 1024
BOUNDARY_MAX = 74
"""Longest first line: two dashes, a boundary of 70 characters, and room for a space behind it."""

_FILENAME = re.compile(rb"filename\*?=(\"[^\"]*\"|[^;\s]*)", re.IGNORECASE)
_NAME = re.compile(rb"[; ]name=\"?([^\";\r\n]*)", re.IGNORECASE)


def files_of(body: bytes) -> List[bytes]:
    """Return the content of each file, in the order of the form. A file field left empty is passed over.

    Raises Problem for a body that is no form, and for a field that is no file.
    """
    boundary = body[: max(0, body.find(b"\r\n", 0, BOUNDARY_MAX + 2))].rstrip(b" \t")
    if not boundary.startswith(b"--") or len(boundary) < 3:
        raise _not_a_form("it does not begin with a boundary")
    parts = (b"\r\n" + body).split(b"\r\n" + boundary, FILES_MAX + 2)[1:]
    closing = next((index for index, part in enumerate(parts) if part.startswith(b"--")), None)
    if closing is None:
        raise _not_a_form(f"it has more than {FILES_MAX} fields" if len(parts) > FILES_MAX else "its end is missing")
    files = [content for part in parts[:closing] for content in _file(part)]
    if not files:
        raise no_rows()
    return files


def _file(part: bytes) -> List[bytes]:
    """Return the content of a part, nothing for a file field that was left empty."""
    head, blank, content = part.partition(b"\r\n\r\n")
    if not blank:
        raise _not_a_form("a field has no content")
    filename = _FILENAME.search(head)
    if filename is None:
        name = _NAME.search(head)
        shown = "" if name is None else name[1][:80].decode("utf-8", "replace")
        raise Problem(
            422,
            "unknown_keys",
            f"The form's field {shown!r} is not a file.",
            "Send files only; options such as `probabilities` belong in the URL.",
        )
    return [] if filename[1] in (b"", b'""') and not content else [content]


def _not_a_form(reason: str) -> Problem:
    return Problem(
        400, "not_a_form", f"The body is not multipart/form-data: {reason}.", "With curl: -F file=@picture.png."
    )
