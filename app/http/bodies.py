"""The bodies of requests: what type they are of, how large they may be, and that they may come compressed."""

from __future__ import annotations

from fastapi import Request

from app.core.content_length import CONTENT_LENGTH_DIGITS
from app.errors import TooLarge, UnsupportedFormat
from app.http import compression


def check_content_type(content_type: str, *others: str) -> None:
    """Accept JSON, one of `others`, or no content type. Raises UnsupportedFormat for any other."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json", *others) or (kind.startswith("application/") and kind.endswith("+json")):
        return
    raise UnsupportedFormat(
        f"A prediction takes {', '.join(('application/json', *others))}, not `{kind[:100]}`.",
        hint="Send the body's own type, with curl: -H 'Content-Type: application/json'"
        + ("; or an image or a sound: -F file=@picture.png." if "multipart/form-data" in others else "."),
    )


async def limited_body(request: Request, max_bytes: int) -> bytes:
    """Read the body, expanded if it came compressed.

    A body that declares a length over the limit is refused unread, another as soon as it is over the limit.
    Raises TooLarge, UnsupportedFormat, BadInput.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > CONTENT_LENGTH_DIGITS or int(declared) > max_bytes):
        raise body_too_large(max_bytes)
    expansion = compression.decompressor_for(request.headers.get("content-encoding", ""))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk if expansion is None else expansion.feed(chunk, max_bytes - len(body))
        if len(body) > max_bytes:
            raise body_too_large(max_bytes)
    if expansion is not None and body:
        expansion.end()
    return bytes(body)


def body_too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than {max_bytes // (1 << 20)} MiB.",
        hint="Send fewer rows at a time, or raise PRISM_MAX_BODY_MB.",
        limit_bytes=max_bytes,
    )
