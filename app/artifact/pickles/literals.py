"""The opcodes of plain values: each pushes a number, a text or bytes as they stand in the stream."""

from __future__ import annotations

import codecs
from typing import Any, Final

from app.artifact.pickles.symbols import MAX_TEXT_BYTES, OPAQUE
from app.artifact.pickles.walker import Handler, PickleScanner
from app.core.plain import valid_text


def constant(value: Any) -> Handler:
    return lambda walker: walker.push(value)


def _opaque(size: int) -> Handler:
    def handler(walker: PickleScanner) -> None:
        walker.take(size)
        walker.push(OPAQUE)

    return handler


def _integer(size: int) -> Handler:
    def handler(walker: PickleScanner) -> None:
        walker.push(int.from_bytes(walker.take(size), "little", signed=size == 4))

    return handler


def _long(size: int) -> Handler:
    def handler(walker: PickleScanner) -> None:
        length = walker.take_number(size)
        if length > 8:
            walker.skip(length)
            walker.push(OPAQUE)
        else:
            walker.push(int.from_bytes(walker.take(length), "little", signed=True))

    return handler


def _content(size: int) -> Handler:
    """Make the handler of bytes whose length comes first, in `size` bytes."""

    def handler(walker: PickleScanner) -> None:
        length = walker.take_number(size)
        if length <= MAX_TEXT_BYTES and walker.findings.code_expected:
            walker.findings.text_bytes += length
            walker.push(walker.take(length))
        else:
            walker.pass_content(length)
            walker.push(OPAQUE)

    return handler


def _unicode(size: int) -> Handler:
    def handler(walker: PickleScanner) -> None:
        walker.push(walker.take_text(walker.take_number(size)))

    return handler


def _binary_string(size: int) -> Handler:
    """Make the handler of a string of Python 2. One that is not ASCII was bytes."""

    def handler(walker: PickleScanner) -> None:
        length = walker.take_number(size)
        if length > MAX_TEXT_BYTES:
            walker.skip(length)
            walker.push(OPAQUE)
        else:
            data = walker.take(length)
            walker.push(data.decode("ascii") if data.isascii() else OPAQUE)

    return handler


def _quoted_string(walker: PickleScanner) -> None:
    line = walker.take_line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    data = codecs.escape_decode(line[1:-1])[0]
    walker.push(data.decode("ascii") if data.isascii() else OPAQUE)


def _unicode_line(walker: PickleScanner) -> None:
    walker.push(valid_text(walker.take_line().decode("raw-unicode-escape")))


def _integer_line(walker: PickleScanner) -> None:
    line = walker.take_line()
    walker.push(line == b"01" if line in (b"00", b"01") else _small(line))


def _long_line(walker: PickleScanner) -> None:
    walker.push(_small(walker.take_line().removesuffix(b"L")))


def _small(digits: bytes) -> Any:
    return int(digits, 0) if len(digits) < 20 else OPAQUE


def _float_line(walker: PickleScanner) -> None:
    float(walker.take_line())
    walker.push(OPAQUE)


LITERALS: Final[dict[bytes, Handler]] = {
    b"N": constant(None),
    b"\x88": constant(True),
    b"\x89": constant(False),
    b"I": _integer_line,
    b"J": _integer(4),
    b"K": _integer(1),
    b"M": _integer(2),
    b"L": _long_line,
    b"\x8a": _long(1),
    b"\x8b": _long(4),
    b"F": _float_line,
    b"G": _opaque(8),
    b"S": _quoted_string,
    b"T": _binary_string(4),
    b"U": _binary_string(1),
    b"B": _content(4),
    b"C": _content(1),
    b"\x8e": _content(8),
    b"\x96": _content(8),
    b"V": _unicode_line,
    b"\x8c": _unicode(1),
    b"X": _unicode(4),
    b"\x8d": _unicode(8),
}
