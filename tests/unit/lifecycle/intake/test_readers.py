"""Artifacts are read two at a time by children whose word is not trusted; see tests/integration for their walls."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from app.core.inspection import Format, Inspection, Pin, UnsafeGlobal
from app.core.model import Artifact
from app.core.reading import ANSWER_BYTES_MAX, Answer, CodeReading, Question, Reading, Refusal
from app.errors import BadInput, UnreadableArtifact, UnsupportedFormat
from app.lifecycle.intake.read_upload import STAGING, check_unpacked, place_code, read_upload
from app.lifecycle.intake.readers import Readers, ordinal
from app.lifecycle.intake.receive import Upload

QUESTION = Question("artifact", "/nowhere")


def answering(content: bytes) -> Callable[[Question], Awaitable[bytes]]:
    async def ask(_: Question) -> bytes:
        return content

    return ask


def told(reading: object) -> bytes:
    return msgspec.json.encode(Answer(found=msgspec.Raw(msgspec.json.encode(reading))))


def pinned(requirement: str) -> Reading:
    return Reading(Inspection(Format.PICKLE, pins=(Pin(requirement, "", "it says so"),)))


async def test_two_artifacts_are_read_at_a_time_and_the_others_get_their_place() -> None:
    go_on = asyncio.Event()

    async def ask(_: Question) -> bytes:
        await go_on.wait()
        return told(Reading(Inspection(Format.PICKLE)))

    readers = Readers(ask)

    async def read(number: int) -> None:
        async with readers.turn(str(number), f"{number}.pkl"):
            await readers.read(QUESTION)

    tasks = [asyncio.create_task(read(number)) for number in range(6)]
    await asyncio.sleep(0)
    assert [(one.request_id, one.place) for one in readers.places] == list(
        zip("012345", (0, 0, 1, 2, 3, 4), strict=True)
    )
    assert readers.places[4].message == "Inspect: 3rd in the queue"
    tasks[2].cancel()  # whoever gives up makes room
    await asyncio.wait([tasks[2]])
    assert [(one.request_id, one.place) for one in readers.places[2:]] == [("3", 1), ("4", 2), ("5", 3)]
    go_on.set()
    await asyncio.wait(tasks)
    assert readers.places == []


def test_places_in_the_queue_are_ordinals() -> None:
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"found": {}}',
        b'{"found": {"inspection": {"format": "pickle", "globals": [1]}}}',
        b'{"found": {"inspection": {"format": "of my own"}}}',
        b'{"found": null, "more": 1}',
        b'{"refusal": {"code": "internal_error", "detail": ""}}',
        b'{"refusal": {"code": "bad_input", "detail": "%s"}}' % (b"x" * 5000),
        b"\xff" * 100,
        b" " * (ANSWER_BYTES_MAX + 1),
        told(pinned("numpy @ https://example.org/numpy.whl")),
        told(pinned("--index-url https://example.org")),
        told(pinned("numpy\n--pre")),
        told(Reading(Inspection(Format.PICKLE, dangers=tuple(UnsafeGlobal(f"a.b{n}", "") for n in range(1001))))),
        told(Reading(Inspection(Format.PICKLE, pins=tuple(Pin(f"a{n}", "", "") for n in range(2001))))),
    ],
)
async def test_a_malformed_answer_of_a_reader_is_a_refusal(content: bytes) -> None:
    with pytest.raises(UnreadableArtifact) as caught:
        await Readers(answering(content)).read(QUESTION)
    assert caught.value.hint


async def test_a_refusal_comes_as_the_reader_raised_it() -> None:
    refusal = Refusal("unsupported_format", "`a` is CSV.", "Save the model.", {"found": "CSV", "detail": "another"})
    with pytest.raises(UnsupportedFormat) as caught:
        await Readers(answering(msgspec.json.encode(Answer(refusal=refusal)))).read(QUESTION)
    document = caught.value.problem()
    assert (document["status"], document["detail"], document["found"]) == (415, "`a` is CSV.", "CSV")


async def test_a_disk_that_is_full_is_not_the_artifacts_fault() -> None:
    with pytest.raises(OSError, match="No space left"):
        await Readers(answering(msgspec.json.encode(Answer(errno=errno.ENOSPC)))).read(QUESTION)
    with pytest.raises(UnreadableArtifact):
        await Readers(answering(msgspec.json.encode(Answer(errno=errno.EPERM)))).read(QUESTION)


async def test_a_config_is_checked_again(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="method"):
        await Readers(answering(b'{"found": {"method": "not a name"}}')).read_config(tmp_path)


def uploaded(folder: Path) -> Upload:
    (folder / "artifact").mkdir()
    (folder / "artifact" / "m.zip").write_bytes(b"zip")
    return Upload("1" * 12, folder, {}, Artifact("m.zip", "0", 3), ())


def link(place: Path) -> None:
    (place / "secret").symlink_to("/etc/passwd")


def second_name(place: Path) -> None:
    os.link(place / "m.pkl", place / "n.pkl")


def pipe(place: Path) -> None:
    os.mkfifo(place / "pipe")


def set_user_id(place: Path) -> None:
    (place / "m.pkl").chmod(0o4755)


def backslash(place: Path) -> None:
    (place / "a\\b").touch()


@pytest.mark.parametrize("trick", [link, second_name, pipe, set_user_id, backslash])
def test_only_plain_files_are_taken_over_from_a_reader(tmp_path: Path, trick: Callable[[Path], None]) -> None:
    place = tmp_path / "model"
    place.mkdir()
    (place / "m.pkl").write_bytes(b"12345")
    check_unpacked(tmp_path, 5)
    with pytest.raises(UnreadableArtifact):
        check_unpacked(tmp_path, 4)
    trick(place)
    with pytest.raises(UnreadableArtifact):
        check_unpacked(tmp_path, 1 << 20)


@pytest.mark.parametrize(
    ("top", "contents", "code"),
    [
        ("..", {}, []),
        (".", {}, []),
        ("/etc", {}, []),
        ("gone", {}, []),
        ("model", {"file": "../../m.pkl"}, []),
        ("model", {"file": "/etc/passwd"}, []),
        ("model", {"file": "gone.pkl"}, []),
        ("model", {"file": "m.pkl"}, ["../m.pkl"]),
        ("model", {"file": "m.pkl"}, ["gone.py"]),
        ("model", {"file": "m.pkl", "mlflow": {"code": "../../.."}}, []),
        ("model", {"file": "m.pkl", "mlflow": {"code": "/etc"}}, []),
    ],
)
async def test_a_path_of_a_reader_leads_nowhere_else(
    tmp_path: Path, top: str, contents: dict[str, Any], code: list[str]
) -> None:
    upload = uploaded(tmp_path)
    if "mlflow" in contents:
        contents["mlflow"] |= {"file": "m.pkl", "flavor": "sklearn", "requirements": "", "requirements_from": ""}
    document = {"inspection": {"format": "pickle"}, "contents": {"config": {}, **contents}, "top": top, "code": code}

    async def ask(question: Question) -> bytes:
        place = Path(question.staging) / "model"
        place.mkdir()
        (place / "m.pkl").write_bytes(b"1")
        return told(document)

    with pytest.raises(UnreadableArtifact):
        await read_upload(upload, Readers(ask), 1 << 20)
    assert not (tmp_path / STAGING).exists()


async def test_what_is_unpacked_takes_the_archives_place(tmp_path: Path) -> None:
    upload = uploaded(tmp_path)

    async def ask(question: Question) -> bytes:
        if question.what == "code":
            return told(CodeReading(places={"steps.py": "steps.py"}))
        place = Path(question.staging) / "model" / "inner"
        place.mkdir(parents=True)
        (place / "m.pkl").write_bytes(b"1")
        (place / "steps.py").touch()
        contents = {"config": {}, "file": "m.pkl"}
        return told(
            {"inspection": {"format": "pickle"}, "contents": contents, "top": "model/inner", "code": ["steps.py"]}
        )

    inspected = await read_upload(upload, Readers(ask), 1 << 20)
    assert (inspected.upload.artifact.main, inspected.code_files) == ("model/m.pkl", ("steps.py",))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["artifact/model/m.pkl", "code/steps.py"]


@pytest.mark.parametrize("place", ["../steps.py", "/steps.py", "other.py", "sub/steps.py", ""])
async def test_a_code_file_is_put_nowhere_but_at_the_end_of_its_path(tmp_path: Path, place: str) -> None:
    upload = structs.replace(uploaded(tmp_path), code_files=("lib/steps.py",))
    (tmp_path / "code" / "lib").mkdir(parents=True)
    (tmp_path / "code" / "lib" / "steps.py").touch()

    async def ask(question: Question) -> bytes:
        if question.what == "code":
            return told(CodeReading(places={"lib/steps.py": place}, definitions={"lib/steps.py": "x = 1"}))
        return told(Reading(Inspection(Format.PICKLE)))

    with pytest.raises(UnreadableArtifact):
        await read_upload(upload, Readers(ask), 1 << 20)
    assert [path.name for path in tmp_path.rglob("*.py")] == ["steps.py"]
    assert not (tmp_path / "code" / "lib" / "steps.py").read_text()


async def test_code_is_put_in_its_places_and_what_is_beside_it_stays(tmp_path: Path) -> None:
    upload = structs.replace(uploaded(tmp_path), code_files=("a/a/x.py", "a/x.py"))
    for name, text in (("a/a/x.py", "deep"), ("a/x.py", "near"), ("data.json", "{}")):
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text(text)

    async def ask(question: Question) -> bytes:
        if question.what == "code":
            places = {"a/a/x.py": "a/x.py", "a/x.py": "x.py"}
            return told(CodeReading(places=places, mains=("x",), definitions={"a/x.py": "reduced"}))
        return told(Reading(Inspection(Format.PICKLE)))

    inspected = await read_upload(upload, Readers(ask), 1 << 20)
    place_code(inspected)
    place_code(inspected)  # as after a registration that failed
    found = {
        str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("code*/**/*") if path.is_file()
    }
    assert found == {
        "code/a/x.py": "deep",
        "code/x.py": "reduced",
        "code/data.json": "{}",
        "code/main_modules.txt": "x\n",
    }


async def test_what_a_reader_left_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    upload = uploaded(tmp_path)

    async def ask(question: Question) -> bytes:
        place = os.open(question.staging, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("deep", dir_fd=place)
            below = os.open("deep", os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = below
        os.close(place)
        return told({"inspection": {"format": "pickle"}, "contents": {"config": {}}, "top": "deep"})

    with pytest.raises(UnreadableArtifact, match="nested too deep"):
        await read_upload(upload, Readers(ask), 1 << 20)
    assert not (tmp_path / STAGING).exists()
