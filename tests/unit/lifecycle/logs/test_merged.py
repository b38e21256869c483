"""Several logs as one: whose line it is, and how reading goes on where it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from app.errors import TargetUnavailable
from app.lifecycle.logs.merged import merged_log
from app.runtime.logs.reader import LogLine
from tests.fakes import eventually

POLL_SECONDS = 0.01


class Logs:
    """Fake logs: for each replica number its lines, whose ids count them, and whether more may come."""

    def __init__(self, **lines: list[str]) -> None:
        self.lines = {int(key[1:]): texts for key, texts in lines.items()}
        self.grow = False
        self.asked: list[tuple[int, str, bool]] = []

    def numbers(self) -> set[int]:
        return set(self.lines)

    async def read(self, number: int, place: str, is_new: bool) -> AsyncIterator[LogLine]:
        self.asked.append((number, place, is_new))
        done = int(place or 0)
        while True:
            for text in self.lines[number][done:]:
                done += 1
                yield LogLine(text, str(done))
            if not self.grow:
                return
            await asyncio.sleep(0)

    async def all(self, *, follow: bool = False, after: str = "") -> list[tuple[str, str]]:
        found = merged_log(self.numbers, self.read, follow, after, POLL_SECONDS)
        return [(line.text, line.id) async for line in found]


@pytest.mark.parametrize("follow", [False, True])
async def test_lines_of_a_single_replica_are_unchanged(follow: bool) -> None:
    logs = Logs(n1=["a", "b"])
    assert await logs.all(follow=follow) == [("a", "1"), ("b", "2")]
    assert await logs.all(follow=follow, after="1") == [("b", "2")]


@pytest.mark.parametrize("follow", [False, True])
async def test_lines_of_several_have_the_number_in_front_and_a_place_in_each_log(follow: bool) -> None:
    logs = Logs(n1=["a"], n2=["b", "c"])
    found = await logs.all(follow=follow)
    assert sorted(text for text, _ in found) == ["[1] a", "[2] b", "[2] c"]
    assert found[-1][1] in ("1:1~2:2", "2:2~1:1")


async def test_reading_resumes_in_each_log_at_its_position() -> None:
    logs = Logs(n1=["a", "b"], n2=["c"], n10=["d"])
    assert await logs.all(follow=True, after="1:1~10:1") == [("[1] b", "1:2~10:1"), ("[2] c", "1:2~10:1~2:1")]
    assert sorted(logs.asked) == [(1, "1", False), (2, "", True), (10, "1", False)]


async def test_a_position_from_a_single_replica_applies_to_the_first() -> None:
    logs = Logs(n1=["a", "b"], n2=["c"])
    assert [text for text, _ in await logs.all(after="1")] == ["[1] b", "[2] c"]


async def test_the_log_of_a_later_replica_is_read_from_its_beginning() -> None:
    logs = Logs(n1=["a"])
    logs.grow = True
    found: list[str] = []
    lines = cast(Any, merged_log(logs.numbers, logs.read, True, "", POLL_SECONDS))

    async def take() -> None:
        async with aclosing(lines):
            async for line in lines:
                found.append(line.text)

    taking = asyncio.create_task(take())
    await eventually(lambda: found == ["a"])
    logs.lines[2] = ["b"]
    await eventually(lambda: found == ["a", "[2] b"])
    logs.lines[1].append("c")
    await eventually(lambda: found == ["a", "[2] b", "[1] c"])
    assert (2, "", True) in logs.asked
    logs.grow = False
    await taking


async def test_the_end_of_one_log_is_reported_after_the_others_have_ended() -> None:
    class Broken(Logs):
        async def read(self, number: int, place: str, is_new: bool) -> AsyncIterator[LogLine]:
            if number == 2:
                raise TargetUnavailable("No engine answers.")
            async for line in super().read(number, place, is_new):
                yield line

    with pytest.raises(TargetUnavailable):
        await Broken(n1=["a"], n2=[]).all(follow=True)
