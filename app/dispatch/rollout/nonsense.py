"""Finds answers that no client could use, as far as that is seen without knowing the model."""

from __future__ import annotations

import msgspec

from app.dispatch.request import Reply
from app.dispatch.response import problem_document
from app.dispatch.v2 import parted
from app.errors import PrismError
from model_container.contract import frames

CHECKED_BYTES_MAX = 1 << 16
"""A longer JSON document is only looked at where it begins and ends. Reading 64 KiB takes 50 µs, 100 bytes 0.1 µs."""

NOT_FINITE = b"null"
"""What a runtime writes for NaN and the infinities, which JSON does not have."""

_any_json = msgspec.json.Decoder(msgspec.Raw)


def is_nonsense(reply: Reply) -> bool:
    """Return whether an answer is not what the protocol allows: no JSON object, or an invalid problem.

    The tensors behind a binary V2 answer's JSON are not looked at.
    """
    try:
        if reply.form == frames.FORM_PROBLEM:
            problem_document(reply.body, reply.status, "")
            return False
        body = parted(reply)[0].body if reply.form == frames.FORM_V2_BINARY else reply.body
        if len(body) <= CHECKED_BYTES_MAX:
            _any_json.decode(body)
    except (PrismError, msgspec.MsgspecError, RecursionError):
        return True
    return not (body.startswith(b"{") and body.endswith(b"}"))


def may_be_not_finite(reply: Reply) -> bool:
    """Return whether an answer may hold a value that is not finite; a text with this word is taken for one, too."""
    return reply.form not in (frames.FORM_PROBLEM, frames.FORM_V2_BINARY) and NOT_FINITE in reply.body
