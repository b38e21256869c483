from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.runtime.logs.reader import BLOCK_BYTES, LogCursor, LogLine, LogReader, fingerprint
from model_container.contract import logfile

SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

LINES = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")),
        st.sampled_from([b"", b"tick", b"tick", "grüße ✓".encode(), b"x" * 300, b"\xff\xfe\x00", b"50%\r51%"]),
    ),
    max_size=40,
)


def text_of(lines: list[bytes]) -> list[str]:
    return [line.decode(errors="replace") for line in lines]


def read_from(path: Path, place: str) -> list[LogLine]:
    """Read as another gateway would: with a new reader, from that position."""
    with closing(LogReader(path)) as reader:
        if place:
            found = LogCursor.parse(place)
            assert found is not None
            assert reader.go_to(found)
        return list(reader.lines())


@given(lines=LINES, stops=st.lists(st.integers(0, 400), max_size=12), tail=st.integers(0, 50))
@SHARED_FOLDER
def test_interrupted_reading_resumes_without_loss_or_repetition(
    tmp_path: Path, lines: list[bytes], stops: list[int], tail: int
) -> None:
    """The log grows by any pieces, also half lines and half characters, and after each piece the reader is another."""
    path = tmp_path / "log"
    path.write_bytes(b"")
    log = b"".join(line + b"\n" for line in lines)
    received: list[str] = []
    place = ""
    begin = 0
    for stop in [*sorted(min(stop, len(log)) for stop in stops), len(log)]:
        with path.open("ab") as file:
            file.write(log[begin:stop])
        begin = stop
        found = read_from(path, place)
        received += [line.text for line in found]
        place = found[-1].id if found else place
    assert received == text_of(lines)
    with closing(LogReader(path)) as reader:
        reader.go_to_tail(tail)
        assert [line.text for line in reader.lines()] == text_of(lines[len(lines) - min(tail, len(lines)) :])


@given(lines=LINES, kept=st.lists(st.integers(1, 200), min_size=1, max_size=4), read=st.integers(0, 40))
@SHARED_FOLDER
def test_truncation_from_the_front_keeps_the_positions_of_the_remaining_lines(
    tmp_path: Path, lines: list[bytes], kept: list[int], read: int
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    before = read_from(path, "")[:read]
    for kept_bytes in kept:
        cut(path, kept_bytes)
    after = read_from(path, before[-1].id if before else "")
    rest = text_of(lines[len(before) :])
    if after and after[0].kind == "gap":
        assert "dropped before they could be read" in after[0].text
        after = after[1:]
        assert len(after) < len(rest)
    else:
        assert len(after) == len(rest)
    assert [line.text for line in after] == rest[len(rest) - len(after) :]


def test_a_line_has_its_time_where_the_log_has_it(tmp_path: Path) -> None:
    path, time = tmp_path / "log", "2026-01-02T03:04:05.678901234Z"
    path.write_bytes(f"{time} one\n{time} \nof an earlier log\n{time} {time} two\n".encode())
    lines = read_from(path, "")
    assert [(line.time, line.text) for line in lines] == [
        (time, "one"),
        (time, ""),
        ("", "of an earlier log"),
        (time, f"{time} two"),
    ]
    assert [line.timestamped() for line in lines] == path.read_text().splitlines()
    assert read_from(path, lines[1].id) == lines[2:]


def cut(path: Path, kept_bytes: int) -> None:
    with path.open("a+b") as log:
        file = logfile.open_to_cut(log.fileno())
        assert file is not None
        try:
            logfile.cut(file, kept_bytes + logfile.HEAD_BYTES, kept_bytes)
        finally:
            os.close(file)


def test_truncation_keeps_the_end_of_the_log_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(1000)))
    size = path.stat().st_size
    cut(path, 100)
    head, _, rest = path.read_bytes().partition(b"\n")
    assert rest.startswith(b"line 9")
    assert rest.endswith(b"line 999\n")
    assert len(rest) <= 100
    assert head == b"prism: %018d bytes of this log were dropped here" % (size - len(rest))


def test_only_regular_files_are_opened_for_truncation() -> None:
    reading, writing = os.pipe()
    try:
        assert logfile.open_to_cut(writing) is None
    finally:
        os.close(reading)
        os.close(writing)


def test_a_reader_keeps_its_position_while_the_log_is_truncated_and_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written = 0

    def write(count: int) -> None:
        nonlocal written
        with path.open("ab") as file:
            for _ in range(count):
                file.write(b"line %d\n" % written)
                written += 1

    write(100)
    received: list[str] = []
    with closing(LogReader(path)) as reader:
        for _ in range(20):
            received += [line.text for line in reader.lines()]
            write(50)
            cut(path, 700)
        received += [line.text for line in read_from(path, reader.id)]
    assert received == [f"line {number}" for number in range(written)]


def test_a_reader_waits_while_a_log_is_being_truncated(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    with closing(LogReader(path)) as reader:
        assert [line.text for line in reader.lines()] == ["one", "two"]
        path.write_bytes(b"prism: ------------------ bytes of this log were dropped here\nold\nold\n")
        assert list(reader.lines()) == []
        path.write_bytes(b"prism: 000000000000000004 bytes of this log were dropped here\ntwo\nthree\n")
        assert [line.text for line in reader.lines()] == ["three"]


def test_an_emptied_log_is_read_from_its_beginning_with_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    with closing(LogReader(path)) as reader:
        assert len(list(reader.lines())) == 2
        path.write_bytes(b"new\n")
        found = [*reader.lines(), *reader.lines()]
    assert [(line.kind, line.text) for line in found] == [
        ("gap", "The log was emptied; lines may be missing here."),
        ("line", "new"),
    ]


@pytest.mark.parametrize("content", [b"one\nTWO\nthree\n", b"one\n", b""], ids=["changed", "shorter", "empty"])
def test_a_position_in_a_replaced_log_is_not_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    place = LogCursor.parse(read_from(path, "")[1].id)
    assert place is not None
    path.write_bytes(content)
    with closing(LogReader(path)) as reader:
        assert not reader.go_to(place)


def test_a_line_longer_than_a_block_is_split_between_characters(tmp_path: Path) -> None:
    path = tmp_path / "log"
    long = "é✓" * BLOCK_BYTES
    path.write_text(f"short\n{long}\nend\n")
    found = read_from(path, "")
    assert found[0].text == "short"
    assert "".join(line.text for line in found[1:-1]) == long
    assert found[-1].text == "end"
    for index, line in enumerate(found[:-1]):
        assert [other.text for other in read_from(path, line.id)] == [other.text for other in found[index + 1 :]]


def test_an_unfinished_last_line_is_returned_once_and_continued_later(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\nhalf")
    with closing(LogReader(path)) as reader:
        assert [line.text for line in reader.lines()] == ["one"]
        (half,) = reader.rest()
        assert half.text == "half"
    with path.open("ab") as file:
        file.write(b" and whole\nthree\n")
    assert [line.text for line in read_from(path, half.id)] == [" and whole", "three"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "f-1-2",
        "f1-2-zz",
        "f1-2-abcdef012",
        f"f{'1' * 17}-0-00000000",
        f"f1-{'9' * 19}-00000000",
        "f١-1-00000000",
    ],
)
def test_an_invalid_position_is_recognised(text: str) -> None:
    assert LogCursor.parse(text) is None


@given(inode=st.integers(0, 2**64 - 1), offset=st.integers(0, 10**18 - 1), line=st.binary(max_size=600))
def test_a_position_survives_a_round_trip_through_text(inode: int, offset: int, line: bytes) -> None:
    place = LogCursor(inode, offset, fingerprint(line))
    assert LogCursor.parse(str(place)) == place


def test_a_position_far_beyond_the_end_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    with closing(LogReader(path)) as reader:
        assert not reader.go_to(LogCursor(reader.inode, 10**17, "00000000"))


def test_reading_a_part_of_a_log_reads_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"tick\n" * 400_000)

    def few(lines: Iterator[LogLine]) -> list[LogLine]:
        return [next(lines) for _ in range(3)]

    with closing(LogReader(path)) as reader:
        reader.go_to_tail(100_000)
        assert [line.text for line in few(reader.lines())] == ["tick"] * 3
        place = LogCursor.parse(reader.id)
        assert place is not None
        assert place.offset == 5 * (300_000 + 3)
