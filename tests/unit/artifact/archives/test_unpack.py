"""Archives are unpacked to what their maker put in, or refused: never outside their folder, never as another thing."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.artifact.archives import unpack as unpacking
from app.artifact.archives.unpack import is_archive, unpack
from app.errors import PrismError, TooLarge, UnreadableArtifact

LIMIT = 16 << 20
NAMES = st.text(st.sampled_from("abcAB01_-é"), min_size=1, max_size=8)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=2000), min_size=1, max_size=6
)


def zipped(folder: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "model.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(folder: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT, gz: bool = False) -> Path:
    path = folder / "model.tar"
    with tarfile.open(path, "w:gz" if gz else "w", format=form) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def tarred_entry(folder: Path, **changes: Any) -> Path:
    """A tar archive of one member with these fields."""
    entry = tarfile.TarInfo("model.pkl")
    for field, value in changes.items():
        setattr(entry, field, value)
    path = folder / "model.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(archive: Path, limit: int = LIMIT) -> dict[str, bytes]:
    into = archive.parent / "unpacked"
    unpack(archive, into, limit)
    return content_of(into)


def refusal(archive: Path, limit: int = LIMIT) -> str:
    with pytest.raises(PrismError) as caught:
        unpack(archive, archive.parent / "unpacked", limit)
    assert isinstance(caught.value, UnreadableArtifact | TooLarge)
    return caught.value.detail


PACKERS: dict[str, Callable[[Path, Mapping[str, bytes]], Path]] = {
    "zip": zipped,
    "zip, stored": lambda folder, members: zipped(folder, members, zipfile.ZIP_STORED),
    "tar": tarred,
    "tar, GNU": lambda folder, members: tarred(folder, members, tarfile.GNU_FORMAT),
    "tar.gz": lambda folder, members: tarred(folder, members, gz=True),
}


@pytest.fixture(params=PACKERS)
def pack(request: pytest.FixtureRequest) -> Callable[[Path, Mapping[str, bytes]], Path]:
    packer: Callable[[Path, Mapping[str, bytes]], Path] = PACKERS[request.param]
    return packer


Pack = Callable[[Path, Mapping[str, bytes]], Path]


def test_packed_files_are_unpacked(tmp_path: Path, pack: Pack) -> None:
    members = {
        "model.pkl": b"\x80\x05" * 3000,
        "code/a.py": b"",
        "ü/" + "n" * 150 + "/x.json": b"{}",
        "big": b"0" * 2_000_000,
    }
    archive = pack(tmp_path, members)
    assert is_archive(archive)
    assert unpacked(archive) == members
    for path in (tmp_path / "unpacked").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=TREES, kind=st.sampled_from(sorted(PACKERS)))
def test_any_tree_is_unpacked_unchanged_or_rejected_for_its_names(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    archive = PACKERS[kind](folder, members)
    folded = [name.casefold() for name in members]
    parents = {"/".join(name.split("/")[:depth]) for name in folded for depth in range(1, name.count("/") + 1)}
    spelled = {"/".join(name.split("/")[:depth]) for name in members for depth in range(1, name.count("/") + 1)}
    clashes = len(set(folded)) < len(folded) or not parents.isdisjoint(folded)
    clashes = clashes or len({one.casefold() for one in spelled}) < len(spelled)
    if clashes:
        assert "spelling" in (detail := refusal(archive)) or "would be the same file" in detail
    else:
        assert unpacked(archive) == members


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(sorted(PACKERS)))
def test_a_damaged_archive_writes_nothing_outside_the_folder_or_beyond_the_limits(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    archive = PACKERS[kind](folder, {"model.pkl": b"abc" * 50, "code/steps.py": b"import os"})
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(1, 4))] = data.draw(st.binary(max_size=6))
    archive.write_bytes(bytes(content))
    before = {path for path in folder.rglob("*") if "unpacked" not in path.parts}
    try:
        found = unpacked(archive)
    except (UnreadableArtifact, TooLarge):
        pass
    else:
        assert sum(map(len, found.values())) <= 4 * LIMIT
    assert {path for path in folder.rglob("*") if "unpacked" not in path.parts} == before
    assert not any(path.is_symlink() for path in folder.rglob("*"))


HOSTILE_NAMES = [
    "../model.pkl",
    "a/../../model.pkl",
    "a/..",
    "/etc/cron.d/model",
    "//host/share",
    "a\\..\\model.pkl",
    "C:model.pkl",
    "model.pkl:stream",
    "a\nb",
    "a\x1b[2J",
    "a\u202egnp.py",
    "model.pkl ",
    "model.pkl.",
    "x" * 201,
    "/".join("a" * 33),
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_leaves_the_folder_is_rejected(tmp_path: Path, pack: Pack, name: str) -> None:
    detail = refusal(pack(tmp_path, {"fine.txt": b"1", name: b"evil"}))
    assert ("leads out of the folder" in detail) is (".." in name.split("/"))
    assert not (tmp_path / "model.pkl").exists()
    assert not (tmp_path.parent / "model.pkl").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("model.pkl", "model.pkl"),
        ("model.pkl", "./model.pkl"),
        ("model.pkl", "MODEL.PKL"),
        ("Model/a", "model/b"),
        ("model", "model/a"),
        ("model/a", "model"),
        ("stra\u00dfe", "strasse"),
        ("\u00e9", "e\u0301"),
        ("\ufb01t", "fit"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_are_never_written_to_one_file(tmp_path: Path, kind: str, names: tuple[str, str]) -> None:
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "model", "w") as archive:
            for name in names:
                archive.writestr(name, name)
    else:
        with tarfile.open(tmp_path / "model", "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))
    refusal(tmp_path / "model")


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"S",
        b"V",
    ],
)
def test_links_and_devices_of_a_tar_archive_are_refused(tmp_path: Path, kind: bytes) -> None:
    assert "not a file" in refusal(tarred_entry(tmp_path, type=kind, linkname="/etc/passwd"))


def test_a_link_that_later_members_would_be_written_through_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("out/evil"))
    refusal(tmp_path / "model.tar")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666, stat.S_IFIFO | 0o666, stat.S_IFSOCK])
@pytest.mark.parametrize("system", [3, 0])
def test_links_and_devices_of_a_zip_archive_are_refused(tmp_path: Path, mode: int, system: int) -> None:
    entry = zipfile.ZipInfo("model.pkl")
    entry.external_attr, entry.create_system = mode << 16, system
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    assert "link or a device" in refusal(tmp_path / "model.zip")


def test_permissions_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    archive = tarred_entry(tmp_path, size=3, mode=0o6777, uid=0, gid=0, uname="root")
    assert unpacked(archive) == {"model.pkl": b"xxx"}
    assert stat.S_IMODE((tmp_path / "unpacked" / "model.pkl").stat().st_mode) == 0o644


def test_files_added_by_programs_are_left_out(tmp_path: Path, pack: Pack) -> None:
    members = {"model.pkl": b"m", "__MACOSX/._model.pkl": b"x", "._model.pkl": b"x", ".DS_Store": b"x"}
    members |= {"code/__pycache__/a.cpython-311.pyc": b"x", "code/.git/config": b"x"}
    assert unpacked(pack(tmp_path, members)) == {"model.pkl": b"m"}


def test_more_bytes_than_the_limit_allows_are_refused_before_they_are_written(tmp_path: Path, pack: Pack) -> None:
    archive = pack(tmp_path, {"a": bytes(300_000), "b": bytes(300_000)})
    assert "0 MiB" in refusal(archive, limit=100_000)
    assert sum(map(len, content_of(tmp_path / "unpacked").values())) <= 400_000


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path, kind: str) -> None:
    archive = PACKERS[kind](tmp_path, {"model.pkl": bytes(80 << 20)})
    assert archive.stat().st_size < 100_000
    assert "200 times its own size" in refusal(archive, limit=1 << 30)


def test_a_bomb_of_overlapping_members_is_refused(tmp_path: Path) -> None:
    """Every record of the directory points to the same compressed bytes."""
    archive = zipped(tmp_path, {"a": bytes(1 << 20)})
    content = archive.read_bytes()
    start = content.index(b"PK\1\2")
    record = content[start : content.index(b"PK\5\6")]
    records = b"".join(record[:46] + bytes((ord("a") + index,)) for index in range(20))
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 20, 20, len(records), start, 0)
    archive.write_bytes(content[:start] + records + end)
    assert "belong to no member, or to two" in refusal(archive)


def test_a_bomb_of_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("zip", "tar"):
        archive = PACKERS[kind](tmp_path, {f"file{index}": b"" for index in range(10_001)})
        assert "members" in refusal(archive)
        for path in (tmp_path / "unpacked").iterdir():
            path.unlink()
        (tmp_path / "unpacked").rmdir()


def test_an_archive_in_the_archive_is_a_file_like_any(tmp_path: Path) -> None:
    inner = zipped(tmp_path, {"../evil": b""}).read_bytes()
    assert unpacked(zipped(tmp_path, {"inner.zip": inner})) == {"inner.zip": inner}


def patched(archive: Path, magic: bytes, offset: int, form: str, value: int) -> Path:
    """One number of the first structure with this magic replaced."""
    content = bytearray(archive.read_bytes())
    struct.pack_into(form, content, content.index(magic) + offset, value)
    archive.write_bytes(bytes(content))
    return archive


LOCAL, RECORD, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


@pytest.mark.parametrize(
    ("magic", "offset", "form", "value"),
    [
        (LOCAL, 22, "<I", 1),  # size
        (LOCAL, 18, "<I", 1),  # packed size
        (LOCAL, 14, "<I", 1),  # checksum
        (LOCAL, 8, "<H", 0),  # method
        (LOCAL, 6, "<H", 1),  # encrypted
        (RECORD, 24, "<I", 1),
        (RECORD, 24, "<I", 100_000),
        (RECORD, 20, "<I", 1),
        (RECORD, 16, "<I", 1),
        (RECORD, 10, "<H", 0),
        (RECORD, 10, "<H", 12),  # bzip2
        (RECORD, 8, "<H", 1),
        (RECORD, 8, "<H", 1 << 13),
        (RECORD, 34, "<H", 1),  # on another disk
        (RECORD, 42, "<I", 7),  # its place
        (END, 10, "<H", 3),  # number of members
        (END, 8, "<H", 1),
        (END, 12, "<I", 10),  # size of the directory
        (END, 16, "<I", 0),  # its place
        (END, 16, "<I", 0xFFFFFFFF),
        (END, 20, "<H", 5),  # length of the comment
        (END, 4, "<H", 1),  # number of the disk
    ],
)
def test_a_zip_archive_with_contradictory_fields_is_rejected(
    tmp_path: Path, magic: bytes, offset: int, form: str, value: int
) -> None:
    archive = zipped(tmp_path, {"model.pkl": b"model" * 100, "b": b"x" * 90})
    refusal(patched(archive, magic, offset, form, value))


def test_a_local_name_other_than_the_directorys_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"model.pkl": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"model.pkl", b"../../.py", 1))
    assert "described in two different ways" in refusal(archive)


def test_bytes_that_belong_to_no_member_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"a": b"first", "b": b"second"})
    whole = archive.read_bytes()
    for changed in (b"#!/bin/sh\n" + whole, whole + b"behind", whole[:-30], whole + whole):
        archive.write_bytes(changed)
        refusal(archive)
        (tmp_path / "unpacked").rmdir()


def test_a_member_that_only_a_reader_from_the_front_would_find_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    hidden = zipped(tmp_path / "other", {"model.py": b"evil"}).read_bytes()
    hidden = hidden[: hidden.index(RECORD)]
    archive = zipped(tmp_path, {"a": b"first"})
    whole = archive.read_bytes()
    start = whole.index(RECORD)
    content = bytearray(whole[:start] + hidden + whole[start:])
    struct.pack_into("<I", content, content.index(END) + 16, start + len(hidden))
    archive.write_bytes(bytes(content))
    assert "belong to no member" in refusal(archive)


def test_content_beyond_the_declared_size_is_rejected(tmp_path: Path) -> None:
    """The directory and the member agree on a size; the compressed data has more in it."""
    for promised in (b"x" * 10, b""):
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflater.compress(b"x" * 5000) + deflater.flush()
        archive = hand_made(tmp_path, b"a", packed, len(promised), zlib.crc32(promised))
        assert "checksum and size" in refusal(archive)
        (tmp_path / "unpacked" / "a").unlink()
        (tmp_path / "unpacked").rmdir()
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflater.compress(b"y") + deflater.flush() + b"more"
    archive = hand_made(tmp_path, b"a", packed, 1, zlib.crc32(b"y"))
    assert "data after" in refusal(archive)


def hand_made(
    folder: Path,
    name: bytes,
    packed: bytes,
    size: int,
    crc: int,
    flags: int = 0,
    extra: bytes = b"",
    behind: bytes = b"",
) -> Path:
    """A zip archive of one deflated member, whose numbers are what they are said to be here."""
    numbers = struct.pack("<III", crc, len(packed), size)
    head = struct.pack("<HHHHH", 20, flags, 8, 0, 33)
    local_numbers = bytes(12) if flags & 8 else numbers
    local = LOCAL + head + local_numbers + struct.pack("<HH", len(name), len(extra)) + name + extra + packed + behind
    record = RECORD + b"\x14\x03" + head + numbers
    record += struct.pack("<HHHHHII", len(name), len(extra), 0, 0, 0, 0, 0) + name + extra
    end = struct.pack("<4sHHHHIIH", END, 0, 0, 1, 1, len(record), len(local), 0)
    path = folder / "hand.zip"
    path.write_bytes(local + record + end)
    return path


def deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(content) + deflater.flush()


def test_a_zip_archive_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    """Its sizes stand behind each member, with and without a magic number, in 32 and in 64 bits."""
    packed, crc = deflated(b"model"), zlib.crc32(b"model")
    narrow, wide = struct.pack("<III", crc, len(packed), 5), struct.pack("<IQQ", crc, len(packed), 5)
    for behind in (narrow, wide, b"PK\7\x08" + narrow, b"PK\7\x08" + wide):
        archive = hand_made(tmp_path, b"model.pkl", packed, 5, crc, flags=8, behind=behind)
        assert unpacked(archive) == {"model.pkl": b"model"}
        (tmp_path / "unpacked" / "model.pkl").unlink()
        (tmp_path / "unpacked").rmdir()
    refusal(hand_made(tmp_path, b"model.pkl", packed, 5, crc, flags=8, behind=narrow[:-1] + b"\1"))


def test_a_second_name_in_an_extra_field_is_refused(tmp_path: Path) -> None:
    for second, is_same in ((b"../evil", False), (b"a", True)):
        field = b"\1" + struct.pack("<I", zlib.crc32(b"a")) + second
        extra = struct.pack("<HH", 0x7075, len(field)) + field
        archive = hand_made(tmp_path, b"a", deflated(b"x"), 1, zlib.crc32(b"x"), extra=extra)
        if is_same:
            assert unpacked(archive) == {"a": b"x"}
        else:
            assert "second, different name" in refusal(archive)
            (tmp_path / "unpacked").rmdir()


def test_a_name_that_readers_decode_differently_is_refused(tmp_path: Path) -> None:
    name = "ü".encode("latin-1")
    assert "not marked as UTF-8" in refusal(hand_made(tmp_path, name, deflated(b"x"), 1, zlib.crc32(b"x")))


def test_a_zip64_archive_may_not_contradict_itself(tmp_path: Path) -> None:
    """The form that large archives have, on a small one."""
    archive = zipped(tmp_path, {"model.pkl": b"model"})
    content = archive.read_bytes()
    end = content.index(END)
    count, size, start = struct.unpack_from("<HII", content, end + 10)
    large = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    small = struct.pack("<4sHHHHIIH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    archive.write_bytes(content[:end] + large + locator + small)
    assert unpacked(archive) == {"model.pkl": b"model"}
    (tmp_path / "unpacked" / "model.pkl").unlink()
    (tmp_path / "unpacked").rmdir()
    archive.write_bytes(content[:end] + b"x" + large + locator + small)
    refusal(archive)


def checksummed(block: bytes) -> bytes:
    """A tar head with its checksum set right."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def tar_head(archive: Path, at: int, value: bytes) -> Path:
    """The first head of the archive changed at one place, its checksum right again."""
    content = archive.read_bytes()
    head = checksummed(content[:at] + value + content[at + len(value) : 512])
    archive.write_bytes(head + content[512:])
    return archive


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (124, b"-0000000001\0"),
        (124, b"\x80" + bytes(10) + b"\3"),  # in base 256
        (124, b"0x000000003\0"),
        (124, b"00000000000\0"),  # its content then stands where a head should
        (124, b"77777777777\0"),
        (156, b"1"),
        (156, b"2"),
        (156, b"5"),
        (156, b"K"),
        (156, b"Z"),
        (257, b"USTAR"),
        (0, b"\xff"),
    ],
)
def test_a_tar_header_that_readers_interpret_differently_is_rejected(tmp_path: Path, at: int, value: bytes) -> None:
    archive = tarred(tmp_path, {"model.pkl": b"x" * 512, "b": b"y" * 10}, tarfile.USTAR_FORMAT)
    refusal(tar_head(archive, at, value))


def test_a_damaged_checksum_is_refused(tmp_path: Path) -> None:
    archive = tarred(tmp_path, {"model.pkl": b"x"})
    archive.write_bytes(b"n" + archive.read_bytes()[1:])
    assert "damaged" in refusal(archive)


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "0"},
        {"size": "3"},
        {"path": "../evil"},
        {"path": "/evil"},
        {"linkpath": "/etc"},
        {"hdrcharset": "BINARY"},
        {"GNU.sparse.name": "evil"},
        {"GNU.sparse.major": "1"},
    ],
)
def test_a_tar_extension_beyond_the_name_is_rejected(tmp_path: Path, headers: dict[str, str]) -> None:
    entry = tarfile.TarInfo("model.pkl")
    entry.size = 3
    entry.pax_headers = headers
    with tarfile.open(tmp_path / "model.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(b"abc"))
    refusal(tmp_path / "model.tar")
    assert not (tmp_path / "evil").exists()


def test_a_global_tar_extension_may_hold_only_irrelevant_keys(tmp_path: Path) -> None:
    for headers, is_fine in (({"comment": "0c47983"}, True), ({"path": "evil"}, False), ({"size": "1"}, False)):
        with tarfile.open(tmp_path / "model.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
            archive.addfile(tarfile.TarInfo("model.pkl"))
        if is_fine:
            assert unpacked(tmp_path / "model.tar") == {"model.pkl": b""}
            (tmp_path / "unpacked" / "model.pkl").unlink()
        else:
            refusal(tmp_path / "model.tar")
        (tmp_path / "unpacked").rmdir()


def test_a_tar_archive_must_end_and_must_end_once(tmp_path: Path) -> None:
    archive = tarred(tmp_path, {"model.pkl": b"x"})
    whole = archive.read_bytes()
    for changed in (whole[:1024], whole[:1200], whole[:1536], whole + whole, whole + bytes(2 << 20), whole + b"x"):
        archive.write_bytes(changed)
        refusal(archive)
        for path in (tmp_path / "unpacked").iterdir():
            path.unlink()
        (tmp_path / "unpacked").rmdir()


def test_a_compressed_tar_archive_with_data_after_its_end_is_rejected(tmp_path: Path) -> None:
    archive = tarred(tmp_path, {"model.pkl": b"x"}, gz=True)
    whole = archive.read_bytes()
    bomb = gzip.compress(gzip.decompress(whole) + bytes(50 << 20))
    for changed in (whole + b"x", whole + gzip.compress(b"more"), whole[:-9], bomb):
        archive.write_bytes(changed)
        refusal(archive)
        for path in (tmp_path / "unpacked").iterdir():
            path.unlink()
        (tmp_path / "unpacked").rmdir()


def test_a_model_file_is_not_treated_as_an_archive(tmp_path: Path) -> None:
    for content in (b"\x80\x05model", b"", gzip.compress(b"\x80\x05model"), b"PK", b"ustar" * 100):
        (tmp_path / "model").write_bytes(content)
        assert not is_archive(tmp_path / "model")
    assert unpacking.RATIO > 1
