"""Has a confined child read an artifact: starts it, hands it the question, takes its answer within limits, ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final, cast

import msgspec
import structlog

from app.core.child_environment import child_environment
from app.core.reading import ANSWER_BYTES_MAX, Question, Task
from app.errors import UnreadableArtifact

log = structlog.get_logger(__name__)

PROGRAM: Final = Path(__file__).resolve().parent.parent / "lifecycle" / "reader.py"
WORDS_BYTES_MAX: Final = 64 << 10
"""Of what it says on standard error: its supervisor's reason, or a traceback."""

UNPACKING_FACTOR: Final = 4
"""app.lifecycle.archive_entry.FACTOR"""


class ReaderProcess:
    """memory_mb, timeout_seconds: what reading one artifact may take, its start included.

    A reader runs as PRISM's own Python with an empty environment, at the lowest priority.
    """

    def __init__(self, memory_mb: int, timeout_seconds: float) -> None:
        self._memory_mb = memory_mb
        self._timeout_seconds = timeout_seconds

    async def ask(self, question: Question) -> bytes:
        """The answer, unchecked, and hardly longer than it may be. Raises UnreadableArtifact for none."""
        transport, talk = await asyncio.get_running_loop().subprocess_exec(
            _Talk,
            *(sys.executable, "-I", "-S", str(PROGRAM), *filter(None, sys.path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(),
            cwd="/",
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                _send(transport, self._task(question))
                await talk.ended
        except TimeoutError as error:
            raise self._too_slow() from error
        finally:
            transport.close()  # kills the supervisor, and with it all that it watches
            await talk.exited
        code = transport.get_returncode()
        if len(talk.content) <= ANSWER_BYTES_MAX and code:
            raise self._failed(code, bytes(talk.words).decode(errors="replace"))
        return bytes(talk.content)

    def _task(self, question: Question) -> bytes:
        file_mb = max(1, UNPACKING_FACTOR * question.max_upload_bytes >> 20)
        return msgspec.json.encode(Task(question, self._memory_mb, file_mb))

    def _too_slow(self) -> UnreadableArtifact:
        return UnreadableArtifact(
            f"Reading the artifact took longer than {self._timeout_seconds:g} s.",
            hint="Export the model to ONNX, or raise PRISM_INSPECT_TIMEOUT_SECONDS.",
        )

    def _failed(self, code: int, words: str) -> UnreadableArtifact:
        """Of a reader that came to no answer."""
        log.warning("a reader of artifacts came to no answer", code=code, words=words[-500:])
        if "out of memory" in words or "out-of-memory" in words or "MemoryError" in words:
            return UnreadableArtifact(
                f"Reading the artifact takes more than the {self._memory_mb} MiB of memory that a reader has.",
                hint="Export the model to ONNX, or raise PRISM_INSPECT_MEMORY_MB.",
            )
        number = -code if code < 0 else code - 128
        known = number in signal.valid_signals() if number > 0 else False
        what = f"was ended by signal {number} ({signal.Signals(number).name})" if known else f"ended with code {code}"
        return UnreadableArtifact(
            f"The process that read the artifact {what}.",
            hint="Save the model again, or export it to ONNX; what is said of it here is in the server's log.",
        )


class _Talk(asyncio.SubprocessProtocol):
    """What a reader says. ended: it has said all, or more than it may. exited: its process is gone."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.words = bytearray()
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        said, most = (self.content, ANSWER_BYTES_MAX) if fd == 1 else (self.words, WORDS_BYTES_MAX)
        if len(said) <= most:
            said += data
        if len(said) > most:
            self._end()

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """All its pipes are closed, and its exit code is known."""
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _send(transport: asyncio.SubprocessTransport, task: bytes) -> None:
    stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
    stdin.write(task)
    stdin.close()
