from __future__ import annotations

import os
from pathlib import Path

from app.runtime.logs.files import MAX_BYTES, read_log, rotate


async def lines_of(path: Path, tail: int) -> list[str]:
    return [line.text async for line in read_log(path, tail, lambda: False)]


async def test_the_last_lines_come_first_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(20_000)))
    assert await lines_of(path, 3) == ["line 19997", "line 19998", "line 19999"]
    assert len(await lines_of(path, 15_000)) == 15_000
    assert await lines_of(path, 0) == []


async def test_a_log_shorter_than_the_requested_tail_is_returned_completely(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n\nthree")
    assert await lines_of(path, 10) == ["one", "", "three"]


async def test_a_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert await lines_of(tmp_path / "log", 10) == []


async def test_an_empty_log_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert await lines_of(tmp_path / "log", 10) == []


async def test_following_goes_on_through_truncation_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first line\n")
    growing = True
    following = read_log(path, 10, lambda: growing)
    assert (await anext(following)).text == "first line"
    os.truncate(path, 0)
    path.write_text("cut\n")
    assert (await anext(following)).kind == "gap"
    assert (await anext(following)).text == "cut"
    path.rename(tmp_path / "log.1")
    path.write_text("new file\n")
    assert (await anext(following)).text == "new file"
    growing = False
    assert [line async for line in following] == []


def test_a_large_log_is_rotated_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    rotate(path)
    rotate(path)
    assert [one.name for one in tmp_path.iterdir()] == ["log.1"]
