"""The readers of artifacts: sandboxed child processes, a few at a time. Later uploads queue, and learn their place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog
from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement

from app.core.inspection import Pin
from app.core.model_config import ModelConfig, checked
from app.core.reading import ANSWER_BYTES_MAX, CODE_FILES_MAX, STORAGE, Answer, CodeReading, Question, Reading, Refusal
from app.errors import BadInput, TooLarge, UnreadableArtifact, UnsupportedFormat

log = structlog.get_logger(__name__)

AT_A_TIME: Final = 2
MOST: Final = {
    "globals": 20_000,
    "pins": 2000,
    "dangers": 1000,
    "missing_code": 1000,
    "unknown_modules": 1000,
    "unknown_pins": 2000,
    "second_opinion": 10_000,
}
"""How many of each an artifact may have, as the gateway goes through all of them; models have some hundred imports."""

ERRORS: Final = {error.code: error for error in (BadInput, UnsupportedFormat, UnreadableArtifact, TooLarge)}

Ask = Callable[[Question], Awaitable[bytes]]
"""Has a reader answer a question. Raises UnreadableArtifact if it gives no answer."""

Decoded = TypeVar("Decoded")


class Turn(Struct, eq=False):
    """An artifact that is being read or waits for it. request_id: of the request that brought it, "" where none did."""

    request_id: str
    filename: str
    come: asyncio.Event


class Place(Struct, frozen=True):
    """The place of an artifact. place: in the queue, 1 is next; 0 while it is being read."""

    request_id: str
    filename: str
    place: int

    @property
    def message(self) -> str:
        return f"Inspect: {ordinal(self.place)} in the queue" if self.place else "Inspect: being read"


class Readers:
    """The queue of artifacts to read. ask: has a child process read one of them."""

    def __init__(self, ask: Ask, at_a_time: int = AT_A_TIME) -> None:
        self._ask = ask
        self._at_a_time = at_a_time
        self._turns: list[Turn] = []
        self._told_missing = False

    @property
    def places(self) -> list[Place]:
        """The places of all artifacts that are being read or wait, in their order."""
        return [
            Place(turn.request_id, turn.filename, max(0, number - self._at_a_time))
            for number, turn in enumerate(self._turns, 1)
        ]

    @asynccontextmanager
    async def turn(self, request_id: str, filename: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the body. A caller that gives up while waiting leaves the queue."""
        turn = Turn(request_id, filename, asyncio.Event())
        self._turns.append(turn)
        try:
            self._call()
            await turn.come.wait()
            yield
        finally:
            self._turns.remove(turn)
            self._call()

    def _call(self) -> None:
        for turn in self._turns[: self._at_a_time]:
            turn.come.set()

    async def read(self, question: Question) -> Reading:
        """Read an artifact or a folder, within a turn. Raises what is wrong with it, as the reader reports it."""
        reading = await self._decode(question, Reading)
        await asyncio.to_thread(check, reading)
        return reading

    async def read_code(self, question: Question) -> CodeReading:
        """Read a folder of Python files that came with a model, within a turn. Raises what is wrong with them."""
        reading = await self._decode(question, CodeReading)
        await asyncio.to_thread(check_code, reading)
        return reading

    async def read_config(self, folder: Path) -> ModelConfig:
        """Read the model_config.yaml of a model's folder. Raises BadInput."""
        async with self.turn("", folder.name):
            return checked(await self._decode(Question("config", str(folder)), ModelConfig))

    async def is_onnx(self, path: Path) -> bool:
        """Return whether the file is a complete ONNX file."""
        async with self.turn("", path.name):
            try:
                return await self._decode(Question("onnx", str(path)), bool)
            except UnreadableArtifact:
                return False

    async def _decode(self, question: Question, kind: type[Decoded]) -> Decoded:
        answer = await self._answer(question)
        try:
            return await asyncio.to_thread(msgspec.json.decode, answer.found, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise unusable(error) from error

    async def _answer(self, question: Question) -> Answer:
        content = await self._ask(question)
        if len(content) > ANSWER_BYTES_MAX:
            raise UnreadableArtifact(
                f"The inspection result is larger than {ANSWER_BYTES_MAX >> 20} MiB.",
                hint="No real model describes itself at such length; save it again, or export it to ONNX.",
            )
        try:
            answer = msgspec.json.decode(content, type=Answer)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise unusable(error) from error
        self._tell_missing(answer.missing)
        if answer.errno in STORAGE:
            raise OSError(answer.errno, os.strerror(answer.errno))
        if answer.refusal is not None:
            raise error_of(answer.refusal)
        return answer

    def _tell_missing(self, missing: tuple[str, ...]) -> None:
        if missing and not self._told_missing:
            self._told_missing = True
            log.warning(
                "readers of artifacts are less isolated on this machine", missing=[measure[:200] for measure in missing]
            )


def error_of(refusal: Refusal) -> BadInput:
    """Return the error that the reader raised."""
    error = ERRORS[refusal.code](refusal.detail, hint=refusal.hint)
    error.values = refusal.values
    return error


def unusable(error: Exception) -> UnreadableArtifact:
    log.warning("a reader of artifacts gave an invalid answer", error=f"{type(error).__name__}: {error}"[:500])
    return UnreadableArtifact(
        "The process that read the artifact gave an invalid answer.",
        hint="Save the model again, or export it to ONNX.",
    )


def check(reading: Reading) -> None:
    """Check a reading. Raises UnreadableArtifact or BadInput for what no honest reader says."""
    for name, most in MOST.items():
        if (number := len(getattr(reading.inspection, name))) > most:
            raise UnreadableArtifact(
                f"The artifact has {number} {name.replace('_', ' ')}, but at most {most} are allowed.",
                hint="No real model has so many; save it again, or export it to ONNX.",
            )
    check_pins((*reading.inspection.pins, *reading.inspection.unknown_pins))
    if reading.contents is not None:
        checked(reading.contents.config)


def check_code(reading: CodeReading) -> None:
    """Check a reading of code. Raises UnreadableArtifact for what no honest reader says."""
    for name in reading.__struct_fields__:
        if len(getattr(reading, name)) > CODE_FILES_MAX:
            raise UnreadableArtifact(f"The model's code has more than {CODE_FILES_MAX} files or imports.")
    check_pins(reading.pins)


def check_pins(pins: tuple[Pin, ...]) -> None:
    """Check the pins, which become requirements for the resolver.

    Raises UnreadableArtifact for a pin that is more than a name with versions.
    """
    for pin in pins:
        try:
            is_plain = pin.requirement.isprintable() and Requirement(pin.requirement).url is None
        except (InvalidRequirement, ValueError, RecursionError):
            is_plain = False
        if not is_plain:
            raise UnreadableArtifact(
                f"The model requires the package {pin.requirement[:100]!a}, which is not a name with versions.",
                hint="Name its packages in your requirements.",
            )


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
