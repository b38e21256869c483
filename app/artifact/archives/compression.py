"""Reads an artifact's bytes, compressed or not, forwards only and in bounded memory.

A compressed file is decompressed as it is read and never stored. It must decode to its very end, checksum
included: what cannot be decoded has not been read, and what has not been read cannot be judged.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

import lz4.frame  # type: ignore[import-untyped]

from app.errors import UnreadableArtifact

BUFFER_BYTES: Final = 1 << 20
MAX_EXPANDED_BYTES: Final = 64 << 30
"""Most bytes that a file may expand to. Larger models do not fit the machines this runs on. At some 500 MB/s the
worst bomb is given up within minutes, and it never occupies more than two buffers of memory."""


class Decompressor(Protocol):
    """The interface that decompressors of `bz2`, `lzma` and `lz4` share; `_Zlib` gives it to `zlib`'s."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Codec(NamedTuple):
    name: str
    magic: bytes
    new: Callable[[], Decompressor]


class _Zlib:
    """A zlib decompressor that keeps what it did not consume, as the other three do. Python's own hands it back."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


CODECS: Final = (
    Codec("gzip", b"\x1f\x8b", lambda: _Zlib(wbits=31)),
    Codec("bz2", b"BZh", bz2.BZ2Decompressor),
    Codec("xz", b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28)),
    Codec("lzma", b"\x5d\x00\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=1 << 28)),
    Codec("lz4", b"\x04\x22\x4d\x18", lambda: lz4.frame.LZ4FrameDecompressor()),
    *(Codec("zlib", bytes((0x78, flags)), lambda: _Zlib(wbits=15)) for flags in (0x01, 0x5E, 0x9C, 0xDA)),
)
SEVERAL_MEMBERS: Final = frozenset({"bz2", "xz", "lz4"})
_DAMAGE: Final = (zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError)


def codec_of(head: bytes) -> Codec | None:
    """Return the compression of a file that begins with `head`, by its magic number; None for none that is known."""
    return next((codec for codec in CODECS if head.startswith(codec.magic)), None)


class _Expanded(io.RawIOBase):
    """The decompressed content of `file`, as a raw stream for io.BufferedReader."""

    def __init__(self, file: io.BufferedReader, codec: Codec) -> None:
        self._file = file
        self._codec = codec
        self._decompressor = codec.new()
        self._pending = b""
        self._produced = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        chunk = self._next(len(view))
        view[: len(chunk)] = chunk
        self._produced += len(chunk)
        if self._produced > MAX_EXPANDED_BYTES:
            raise UnreadableArtifact(
                f"The {self._codec.name} file expands to more than {MAX_EXPANDED_BYTES >> 30} GiB.",
                hint="Save the model without compression.",
            )
        return len(chunk)

    def _next(self, most: int) -> bytes:
        """Return up to `most` further bytes; b"" only where the compressed content has properly ended."""
        while True:
            if self._decompressor.eof and not self._starts_another_member():
                return b""
            pending, self._pending = self._pending, b""
            try:
                chunk = self._decompressor.decompress(pending, most)
                if chunk:
                    return chunk
                if not self._decompressor.eof:
                    self._pending = self._file.read(BUFFER_BYTES)
            except _DAMAGE as error:
                raise self._damaged(str(error)) from error
            if not self._decompressor.eof and not self._pending:
                raise self._damaged("it ends in the middle")

    def _starts_another_member(self) -> bool:
        """Begin the next member, if one follows. Returns whether one does; raises UnreadableArtifact for other bytes.

        bz2, xz and lz4 files may be several put together; of the other kinds joblib reads only one.
        """
        rest = bytes(self._decompressor.unused_data or b"")
        if len(rest) < len(self._codec.magic):
            rest += self._file.read(BUFFER_BYTES)
        if not rest:
            return False
        if self._codec.name not in SEVERAL_MEMBERS or not rest.startswith(self._codec.magic):
            raise self._damaged("other bytes follow its end")
        self._decompressor = self._codec.new()
        self._pending = rest
        return True

    def _damaged(self, reason: str) -> UnreadableArtifact:
        return UnreadableArtifact(
            f"The {self._codec.name} compression cannot be decoded after {self._produced} decompressed bytes: {reason}.",
            hint="The file is damaged or was not transferred completely; save it or upload it again.",
            offset=self._produced,
        )


class Source(Protocol):
    """Bytes that are read forwards.

    read: returns exactly as many as asked for, fewer only at the end. readline: returns all up to and with the next
    line end, but no more than asked for.
    """

    read: Callable[[int], bytes]
    readline: Callable[[int], bytes]

    @property
    def position(self) -> int | None: ...

    def skip(self, count: int) -> bool: ...


class Stream:
    """The (decompressed) bytes of an artifact. `read` may be taken as a bound method: it is the hot path."""

    def __init__(self, path: Path) -> None:
        self._file: io.BufferedReader = io.BufferedReader(path.open("rb", buffering=0), BUFFER_BYTES)
        self._size = os.fstat(self._file.fileno()).st_size
        self.codec = codec_of(self._file.peek(16)[:16])
        self._content: io.BufferedReader = self._file
        if self.codec:
            self._content = io.BufferedReader(_Expanded(self._file, self.codec), BUFFER_BYTES)
        self.read: Callable[[int], bytes] = self._content.read
        """Exactly as many bytes as asked for, fewer only at the end."""
        self.readline: Callable[[int], bytes] = self._content.readline
        """Up to and with the next line end, but no more bytes than asked for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def compression(self) -> str:
        return self.codec.name if self.codec else ""

    @property
    def position(self) -> int | None:
        """The number of bytes read so far; None in compressed content, where it is not known."""
        return None if self.codec else self._file.tell()

    def peek(self, count: int) -> bytes:
        """Return up to `count` (at most 64 KiB) bytes that come next, without taking them."""
        return self._content.peek(count)[:count]

    def skip(self, count: int) -> bool:
        """Pass over `count` bytes; False if there are fewer. A plain file seeks, whatever the count."""
        if not self.codec:
            if count > self._size - self._file.tell():
                return False
            self._file.seek(count, os.SEEK_CUR)
            return True
        while count > 0:
            passed = len(self.read(min(count, BUFFER_BYTES)))
            if not passed:
                return False
            count -= passed
        return True
