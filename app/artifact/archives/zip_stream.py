"""Reads the members of a zip archive so that no other program can have read something else in it.

A zip archive says everything twice: in front of each member, and in the directory at its end. Readers differ in which
they believe, in what they make of gaps, of bytes in front and of names that are not ASCII. Here both must agree,
members must follow each other from the first byte to the directory, and names are ASCII or marked as UTF-8.
Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (6.3.10).
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from app.artifact.archives.member import CHUNK_BYTES, MEMBERS_MAX, ArchiveMember, quoted, rejected

_END: Final = struct.Struct("<4sHHHHIIH")
_END64_LOCATOR: Final = struct.Struct("<4sIQI")
_END64: Final = struct.Struct("<4sQHHIIQQQQ")
_RECORD: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_END_MAGIC, _RECORD_MAGIC, _LOCAL_MAGIC, _DESCRIPTOR_MAGIC = b"PK\5\6", b"PK\1\2", b"PK\3\4", b"PK\7\x08"

DIRECTORY_BYTES_MAX: Final = 16 << 20
COMMENT_BYTES_MAX: Final = 0xFFFF
STORED, DEFLATED = 0, 8
ENCRYPTED, STREAMED, PATCHED, STRONGLY_ENCRYPTED, UTF8, MASKED = 1 << 0, 1 << 3, 1 << 5, 1 << 6, 1 << 11, 1 << 13
ZIP64_FIELD, UNICODE_PATH_FIELD = 0x0001, 0x7075
_UNKNOWN: Final = 0xFFFFFFFF


class _Member(NamedTuple):
    """One member as the directory describes it."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    mode: int
    offset: int


class _Directory(NamedTuple):
    start: int
    size_bytes: int
    members: int


def zip_members(file: BinaryIO) -> Iterator[ArchiveMember]:
    """Yield the members in order. Raises UnreadableArtifact before the first one or on the way."""
    directory = _directory(file)
    members = sorted(_members(file, directory), key=lambda member: member.offset)
    expected = 0
    for index, member in enumerate(members):
        if member.offset != expected:
            raise rejected(f"there are bytes before {quoted(member.name)} that belong to no member, or to two")
        end = members[index + 1].offset if index + 1 < len(members) else directory.start
        start, expected = _locate(file, member, end)
        is_folder = _is_folder(member)
        yield ArchiveMember(member.name, is_folder, member.size_bytes, _content(file, member, start))
    if expected != directory.start:
        raise rejected("there are bytes before its directory that belong to no member")


def _directory(file: BinaryIO) -> _Directory:
    """Find the directory, from the record at the very end of the file."""
    size = file.seek(0, 2)
    tail_bytes = min(size, _END.size + COMMENT_BYTES_MAX)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise rejected("it has no directory at its end, so it was cut off or is not a zip archive")
    _, disk, first_disk, here, count, bytes_, start, comment = _END.unpack_from(tail, at)
    if len(tail) - at - _END.size != comment:
        raise rejected("bytes follow the end of the zip archive")
    end = size - tail_bytes + at
    if _UNKNOWN in (bytes_, start) or 0xFFFF in (here, count, disk, first_disk):
        end, here, count, bytes_, start = _large_directory(file, end)
    elif disk or first_disk:
        raise rejected("it is one part of a multi-part archive")
    if here != count or count > MEMBERS_MAX:
        raise rejected(f"it has {count} members; {MEMBERS_MAX} is the most")
    if bytes_ > DIRECTORY_BYTES_MAX or start + bytes_ != end:
        raise rejected("its directory is not where its end record says")
    return _Directory(start, bytes_, count)


def _large_directory(file: BinaryIO, end: int) -> tuple[int, int, int, int, int]:
    """Find the directory of an archive of 4 GiB or more: where it ends, members here and in all, bytes, start."""
    if end < _END64_LOCATOR.size + _END64.size:
        raise rejected("its end record is cut off")
    file.seek(end - _END64_LOCATOR.size)
    magic, _, place, disks = _END64_LOCATOR.unpack(file.read(_END64_LOCATOR.size))
    if magic != b"PK\6\7" or disks > 1 or place + _END64.size != end - _END64_LOCATOR.size:
        raise rejected("its end record is inconsistent")
    file.seek(place)
    magic, length, _, _, disk, first_disk, here, count, bytes_, start = _END64.unpack(file.read(_END64.size))
    if magic != b"PK\6\6" or length != _END64.size - 12 or disk or first_disk:
        raise rejected("its end record is inconsistent")
    return place, here, count, bytes_, start


def _members(file: BinaryIO, directory: _Directory) -> Iterator[_Member]:
    file.seek(directory.start)
    content = file.read(directory.size_bytes)
    at = 0
    for _ in range(directory.members):
        if len(content) - at < _RECORD.size:
            raise rejected("its directory is cut off")
        (
            magic,
            _,
            _,
            flags,
            method,
            _,
            _,
            crc,
            packed,
            size,
            name_bytes,
            extra_bytes,
            comment_bytes,
            disk,
            _,
            mode,
            offset,
        ) = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        rest = content[at : at + name_bytes + extra_bytes + comment_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        if magic != _RECORD_MAGIC or at > len(content) or disk:
            raise rejected("its directory is damaged")
        raw_name, extra = rest[:name_bytes], rest[name_bytes : name_bytes + extra_bytes]
        name = _name(raw_name, flags, extra)
        size, packed, offset = _large(_fields(extra, name), [size, packed, offset], name)
        yield _checked(_Member(name, raw_name, flags, method, crc, packed, size, mode >> 16, offset))
    if at != len(content):
        raise rejected("its directory has more entries than its end record says")


def _name(raw: bytes, flags: int, extra: bytes) -> str:
    """Decode a member's name. Raises UnreadableArtifact for one that other programs could read otherwise."""
    try:
        name = raw.decode("utf-8" if flags & UTF8 else "ascii")
    except UnicodeDecodeError:
        raise rejected(
            f"the name {quoted(repr(raw)[2:-1])} is not marked as UTF-8, and programs differ in how to read it"
        ) from None
    unicode_path = _fields(extra, name).get(UNICODE_PATH_FIELD)
    if unicode_path is not None and unicode_path[5:] != raw:
        raise rejected(f"{quoted(name)} has a second, different name")
    return name


def _fields(extra: bytes, name: str) -> dict[int, bytes]:
    """Split the extra fields by their number.

    Raises UnreadableArtifact if one is cut off, or if one of those that are used here comes twice.
    """
    fields: dict[int, bytes] = {}
    while len(extra) >= 4:
        number, length = struct.unpack_from("<HH", extra)
        if len(extra) < 4 + length or (number in fields and number in (ZIP64_FIELD, UNICODE_PATH_FIELD)):
            raise rejected(f"the extra fields of {quoted(name)} are damaged")
        fields[number] = extra[4 : 4 + length]
        extra = extra[4 + length :]
    return fields


def _large(fields: dict[int, bytes], numbers: list[int], name: str) -> list[int]:
    """Return the numbers in order. Those that do not fit 32 bits are taken from the field that has them."""
    wide = fields.get(ZIP64_FIELD, b"")
    for index, number in enumerate(numbers):
        if number == _UNKNOWN:
            if len(wide) < 8:
                raise rejected(f"the size of {quoted(name)} is missing")
            numbers[index] = int.from_bytes(wide[:8], "little")
            wide = wide[8:]
    return numbers


def _checked(member: _Member) -> _Member:
    if member.flags & (ENCRYPTED | STRONGLY_ENCRYPTED | MASKED | PATCHED):
        raise rejected(f"{quoted(member.name)} is encrypted or a patch")
    if member.method not in (STORED, DEFLATED):
        raise rejected(
            f"{quoted(member.name)} is compressed by method {member.method}; only deflate and none are supported"
        )
    if member.method == STORED and (
        member.packed_bytes != member.size_bytes or (member.flags & STREAMED and member.size_bytes)
    ):
        raise rejected(f"the end of {quoted(member.name)} is ambiguous")
    kind = stat.S_IFMT(member.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise rejected(f"{quoted(member.name)} is a link or a device, not a file")
    if kind and (kind == stat.S_IFDIR) != member.name.endswith("/"):
        raise rejected(f"{quoted(member.name)} is a folder by its name or by its mode, but not by both")
    return member


def _is_folder(member: _Member) -> bool:
    if member.name.endswith("/") and member.size_bytes:
        raise rejected(f"the folder {quoted(member.name)} has content")
    return member.name.endswith("/")


def _locate(file: BinaryIO, member: _Member, end: int) -> tuple[int, int]:
    """Return where a member's content starts and where all of the member ends.

    Raises UnreadableArtifact if the member describes itself in another way than the directory does.
    """
    file.seek(member.offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        raise rejected(f"{quoted(member.name)} is cut off")
    magic, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(head)
    rest = file.read(name_bytes + extra_bytes)
    raw_name, extra = rest[:name_bytes], rest[name_bytes:]
    header = (magic, flags, method, raw_name)
    if header != (_LOCAL_MAGIC, member.flags, member.method, member.raw_name):
        raise rejected(f"{quoted(member.name)} is described in two different ways")
    _name(raw_name, flags, extra)
    size, packed = _large(_fields(extra, member.name), [size, packed], member.name)
    expected = (member.crc, member.packed_bytes, member.size_bytes)
    if (crc, packed, size) != expected and not (flags & STREAMED and not any((crc, packed, size))):
        raise rejected(f"the size of {quoted(member.name)} is given in two different ways")
    start = member.offset + _LOCAL.size + name_bytes + extra_bytes
    behind = start + member.packed_bytes
    return start, behind + _descriptor(file, member, behind, end)


def _descriptor(file: BinaryIO, member: _Member, at: int, end: int) -> int:
    """Return the size of the record that follows a member whose size was not known when it was begun, 0 for none."""
    if not member.flags & STREAMED:
        return 0
    file.seek(at)
    descriptor = file.read(min(24, max(0, end - at)))
    numbers = (member.crc, member.packed_bytes, member.size_bytes)
    forms = [struct.pack("<IQQ", *numbers)]
    if max(numbers) < _UNKNOWN:
        forms.append(struct.pack("<III", *numbers))
    for form in (*forms, *(_DESCRIPTOR_MAGIC + form for form in forms)):
        if descriptor == form:
            return len(form)
    raise rejected(f"the size of {quoted(member.name)} is given in two different ways")


def _content(file: BinaryIO, member: _Member, start: int) -> Iterator[bytes]:
    """Yield a member's content. Raises UnreadableArtifact unless size and checksum are what the directory promises."""
    crc = produced = 0
    for chunk in _inflated(file, member, start) if member.method == DEFLATED else _stored(file, member, start):
        crc = zlib.crc32(chunk, crc)
        produced += len(chunk)
        if produced > member.size_bytes:
            break
        yield chunk
    if produced != member.size_bytes or crc != member.crc:
        raise rejected(f"the content of {quoted(member.name)} does not match its checksum and size")


def _stored(file: BinaryIO, member: _Member, start: int) -> Iterator[bytes]:
    file.seek(start)
    left = member.packed_bytes
    while left and (chunk := file.read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk


def _inflated(file: BinaryIO, member: _Member, start: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = _stored(file, member, start)
    try:
        for piece in packed:
            while piece:
                if inflater.eof:
                    raise rejected(f"there is data after the content of {quoted(member.name)}")
                if chunk := inflater.decompress(piece, CHUNK_BYTES):
                    yield chunk
                piece = inflater.unconsumed_tail or inflater.unused_data
        if chunk := inflater.flush():
            yield chunk
    except zlib.error as error:
        raise rejected(f"the content of {quoted(member.name)} is damaged: {error}") from error
    if not inflater.eof:
        raise rejected(f"the content of {quoted(member.name)} is cut off")
