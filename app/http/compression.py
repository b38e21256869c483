"""Bodies that travel compressed: gzip and deflate, in by Content-Encoding, out by Accept-Encoding."""

from __future__ import annotations

import gzip
import zlib

from app.errors import BadInput, UnsupportedFormat
from model_container.contract.stream_forms import weights_of

MIN_BYTES = 1024
"""Smaller answers fit in one packet either way."""

_LEVEL = 1
"""Tensors and numbers shrink little more at higher levels, which take several times as long."""

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class BodyDecompressor:
    """One body on its way in. Its caller says how much more may come of it, so that a bomb costs no more than that."""

    def __init__(self, encoding: str) -> None:
        """Begin to expand one body. encoding: "gzip" or "deflate"."""
        self._is_gzip = encoding == "gzip"
        self._stream = zlib.decompressobj(_GZIP) if self._is_gzip else None
        self._held = b""

    def feed(self, data: bytes, room: int) -> bytes:
        """Expand `data`, to `room` + 1 bytes at most. Raises BadInput if it is not in that encoding."""
        if self._stream is None:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return b""
            self._stream = zlib.decompressobj(_ZLIB if _begins_zlib(data) else _RAW)
        try:
            return self._expand(self._stream, data, room + 1)
        except zlib.error:
            raise _damaged("does not match its Content-Encoding") from None

    def _expand(self, stream: zlib._Decompress, data: bytes, most: int) -> bytes:
        content = b""
        while data:
            if stream.eof:  # several files in one, as `cat a.gz b.gz` makes
                if not self._is_gzip:
                    raise _damaged("has data after its end")
                stream = self._stream = zlib.decompressobj(_GZIP)
            content += stream.decompress(data, most - len(content))
            if len(content) >= most:
                return content
            data = stream.unused_data
        return content

    def end(self) -> None:
        """Check that the body came whole. Raises BadInput if it ended too early."""
        if self._stream is None or not self._stream.eof:
            raise _damaged("ends too early")


def _begins_zlib(data: bytes) -> bool:
    """Return whether a zlib header begins here (RFC 1950, 2.2). By "deflate" some senders mean the bare stream."""
    return data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _damaged(problem: str) -> BadInput:
    return BadInput(f"The compressed body {problem}.", hint="Compress the whole body, once, or send it as it is.")


def decompressor_for(content_encoding: str) -> BodyDecompressor | None:
    """Return what expands such a body, None if it is not compressed. Raises UnsupportedFormat for another encoding."""
    encoding = content_encoding.strip().lower().removeprefix("x-")
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "deflate"):
        return BodyDecompressor(encoding)
    raise UnsupportedFormat(
        f"A prediction takes bodies compressed as gzip or deflate, not `{content_encoding[:100]}`.",
        hint="Use gzip or deflate, or do not compress it.",
    )


def negotiate_encoding(accept_encoding: str) -> str:
    """Choose the encoding of the answer to a request with this header: "gzip", "deflate", or "" for none."""
    weights = weights_of(accept_encoding)
    best = max(("gzip", "deflate"), key=lambda name: weights.get(name, 0.0))
    weight = weights.get(best, weights.get("*", 0.0))
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def compressed(body: bytes, encoding: str) -> bytes:
    """Compress a body. encoding: "gzip" or "deflate"."""
    return gzip.compress(body, _LEVEL, mtime=0) if encoding == "gzip" else zlib.compress(body, _LEVEL)
