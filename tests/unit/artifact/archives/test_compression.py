"""Every codec that joblib writes is read to its end, and nothing that is cut or continued is."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import lz4.frame
import pytest

from app.artifact.archives.compression import Stream
from app.errors import UnreadableArtifact

CONTENT = b"0123456789" * 300

CODECS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
}


def read_all(path: Path) -> bytes:
    with Stream(path) as stream:
        return stream.read(1 << 20)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "artifact"


def test_a_plain_file_is_read_as_it_is(file: Path) -> None:
    file.write_bytes(CONTENT)
    with Stream(file) as stream:
        assert stream.compression == ""
        assert stream.peek(10) == b"0123456789"
        assert stream.read(1 << 20) == CONTENT


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_content_is_read_whole(codec: str, file: Path) -> None:
    file.write_bytes(CODECS[codec](CONTENT))
    with Stream(file) as stream:
        assert stream.compression == codec
        assert stream.peek(10)
        assert stream.read(1 << 20) == CONTENT


@pytest.mark.parametrize("codec", CODECS)
def test_what_joblib_writes_is_recognised(codec: str, file: Path) -> None:
    joblib.dump(list(range(1000)), file, compress=(codec, 3))
    with Stream(file) as stream:
        assert stream.compression == codec
        assert stream.peek(1) == b"\x80"


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_cut_anywhere_is_refused(codec: str, file: Path) -> None:
    whole = CODECS[codec](CONTENT)
    for length in range(6, len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(UnreadableArtifact):
            read_all(file)


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_after_the_end_are_rejected(codec: str, file: Path) -> None:
    file.write_bytes(CODECS[codec](CONTENT) + b"more")
    with pytest.raises(UnreadableArtifact):
        read_all(file)


@pytest.mark.parametrize("codec", ["bz2", "xz", "lz4"])
def test_concatenated_compressed_files_are_read_as_one(codec: str, file: Path) -> None:
    file.write_bytes(CODECS[codec](CONTENT) + CODECS[codec](b"more") * 2000)
    assert read_all(file) == CONTENT + b"more" * 2000


@pytest.mark.parametrize("codec", ["gzip", "zlib"])
def test_concatenated_files_that_joblib_does_not_read_to_the_end_are_rejected(codec: str, file: Path) -> None:
    file.write_bytes(CODECS[codec](CONTENT) + CODECS[codec](b"more"))
    with pytest.raises(UnreadableArtifact):
        read_all(file)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "lzma"])  # it has no checksum
def test_a_changed_byte_never_changes_the_content_silently(codec: str, file: Path) -> None:
    whole = CODECS[codec](CONTENT)
    for place in range(len(whole) // 2, len(whole)):
        file.write_bytes(whole[:place] + bytes((whole[place] ^ 0x10,)) + whole[place + 1 :])
        with contextlib.suppress(UnreadableArtifact):
            assert read_all(file) == CONTENT


@pytest.mark.parametrize("codec", ["", *CODECS])
def test_skipping_stops_at_the_end(codec: str, file: Path) -> None:
    file.write_bytes(CODECS[codec](CONTENT) if codec else CONTENT)
    with Stream(file) as stream:
        assert stream.skip(len(CONTENT) - 1)
        assert stream.read(1) == b"9"
        assert not stream.skip(1)
