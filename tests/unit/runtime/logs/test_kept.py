from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.runtime.logs.kept import (
    GONE,
    LINE_BYTES_MAX,
    ROTATED,
    ContainerPlace,
    Stamped,
    TimestampedLines,
    behind,
    keep_log,
    kept_log,
    place_in,
)
from app.runtime.logs.reader import LogLine

CONTAINER = "0123456789abcdef"
OTHER = "fedcba9876543210"

SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def stamp(number: int) -> str:
    return f"2026-01-02T03:04:{number // 10 % 60:02d}.{number // 10:09d}Z"


def messages(texts: list[bytes]) -> list[bytes]:
    """Return the messages as the engine sends them: long lines in pieces with one timestamp, which short lines may share."""
    found = []
    for number, text in enumerate(texts):
        pieces = [text[start : start + 10] for start in range(0, len(text), 10)] or [b""]
        pieces[-1] += b"\n"
        found += [f"{stamp(number)} ".encode() + piece for piece in pieces]
    return found


def stamped(texts: list[bytes], container: str = CONTAINER) -> list[Stamped]:
    lines = TimestampedLines(container)
    return [line for message in messages(texts) for line in lines.add(message)]


async def each(lines: list[Stamped]) -> AsyncIterator[Stamped]:
    for line in lines:
        yield line


async def kept(path: Path, after: str) -> list[LogLine]:
    return [line async for line in kept_log(path, 1000, lambda: False, after)]


TEXTS = st.lists(st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"")), min_size=1, max_size=60)


PLACE = st.integers(0, 59)
"""Index of a line, taken modulo their number. Nothing is drawn within a coroutine: when hypothesis has seen enough, it
raises, and asyncio passes that on to another task, too."""


@given(texts=TEXTS, number=PLACE)
async def test_reading_after_any_line_returns_the_next_one(texts: list[bytes], number: int) -> None:
    lines = stamped(texts)
    assert [text for _, text in lines] == texts
    assert [place for place, _ in lines] == sorted({place for place, _ in lines})
    index = number % len(lines)
    place = ContainerPlace.parse(str(lines[index][0]))
    assert place == lines[index][0]
    since = next(at for at, (one, _) in enumerate(lines) if one.stamp[:19] == place.stamp[:19])
    found = [line async for line in behind(place, each(lines[since:]))]
    assert [line.text for line in found] == [text.decode(errors="replace") for text in texts[index + 1 :]]


async def test_a_gap_is_reported_once_if_the_engine_dropped_the_line() -> None:
    lines = stamped([b"one", b"two", b"three"] * 10)
    found = [line async for line in behind(lines[3][0], each(lines[15:]))]
    assert [line.kind for line in found] == ["gap"] + ["line"] * 15
    assert found[0].text == ROTATED


def test_the_last_line_needs_no_end() -> None:
    lines = TimestampedLines(CONTAINER)
    assert list(lines.add(f"{stamp(1)} half".encode())) == []
    assert [text for _, text in lines.rest()] == [b"half"]
    assert list(lines.rest()) == []


def test_the_timestamp_of_a_position_is_requested_in_utc() -> None:
    assert ContainerPlace("0" * 12, "1970-01-02T00:00:01.999999999Z").since == 86401


@pytest.mark.parametrize("text", ["", "3", "c012-", f"c{CONTAINER}-{stamp(1)}-0", f"c{CONTAINER[:12]}-yesterday-0"])
def test_an_invalid_position_is_recognised(text: str) -> None:
    assert ContainerPlace.parse(text) is None


@given(texts=TEXTS, earlier=st.lists(st.binary(max_size=9), max_size=3), number=PLACE, further=PLACE)
@SHARED_FOLDER
async def test_a_saved_log_continues_after_any_line_of_a_removed_container(
    tmp_path: Path, texts: list[bytes], earlier: list[bytes], number: int, further: int
) -> None:
    path = tmp_path / "logs" / "runtime.log"
    path.unlink(missing_ok=True)
    keep_log(path, OTHER, messages([text.replace(b"\n", b"") for text in earlier]))
    keep_log(path, CONTAINER, messages(texts))
    lines = stamped(texts)
    index = number % len(lines)
    found = await kept(path, str(lines[index][0]))
    assert [(line.kind, line.text) for line in found] == [
        ("line", text.decode(errors="replace")) for text in texts[index + 1 :]
    ]
    assert [line.time for line in found] == [place.stamp for place, _ in lines[index + 1 :]]
    if found:
        stop = further % len(found)
        assert place_in(path, CONTAINER, found[stop].id) == lines[index + 1 + stop][0]


async def test_a_gap_is_reported_after_a_container_whose_log_was_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "runtime.log"
    place = ContainerPlace(CONTAINER[:12], stamp(1), 0)
    assert [(line.kind, line.text) for line in await kept(path, str(place))] == [("gap", GONE)]
    keep_log(path, OTHER, messages([b"one", b"two"]))
    assert [line.text for line in await kept(path, str(place))] == [GONE, "one", "two"]


async def test_a_gap_is_reported_if_only_the_end_of_a_log_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "runtime.log"
    keep_log(path, CONTAINER, messages([b"%d" % number for number in range(30)])[20:])
    found = await kept(path, str(ContainerPlace(CONTAINER[:12], stamp(9), 9)))
    assert [line.text for line in found][:2] == [GONE, "20"]


def test_a_new_reader_starts_at_the_beginning_of_a_containers_log(tmp_path: Path) -> None:
    path = tmp_path / "runtime.log"
    start = ContainerPlace(CONTAINER[:12])
    assert place_in(path, CONTAINER, "") == start
    keep_log(path, OTHER, messages([b"one"]))
    assert place_in(path, CONTAINER, "f1-2-00000000") == start


def test_an_endless_line_is_returned_in_pieces() -> None:
    lines = TimestampedLines(CONTAINER)
    stamp = b"2026-01-01T00:00:00.000000000Z "
    found = [one for _ in range(200) for one in lines.add(stamp + b"x" * (16 << 10))]
    assert len(found) == 3
    assert all(len(text) <= LINE_BYTES_MAX + (16 << 10) for _, text in found)
    assert [place.ordinal for place, _ in found] == [0, 1, 2]
