"""Has a confined child read an artifact: starts it, hands it the question, takes its answer within limits, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from threading import Lock
from typing import IO, Final

import msgspec
import structlog

from app.core.child_environment import child_environment
from app.core.reading import ANSWER_BYTES_MAX, Question, Task
from app.errors import UnreadableArtifact
from app.runtime.process.background_group import BackgroundGroup

log = structlog.get_logger(__name__)

PROGRAM: Final = Path(__file__).resolve().parent.parent / "artifact" / "reader.py"
WORDS_BYTES_MAX: Final = 64 << 10
"""Most bytes of what a reader says on standard error: its supervisor's reason, or a traceback."""

PIECE_BYTES: Final = 64 << 10
LOOK_SECONDS: Final = 0.5
"""Time between two looks at whether a reader gets on."""

UNPACKING_FACTOR: Final = 4
"""The same as app.artifact.archives.member.FACTOR."""


class ReaderProcess:
    """The readers of artifacts.

    memory_mb, timeout_seconds: what reading one artifact may take, its start included. group: where readers run.

    A reader runs as PRISM's own Python with an empty environment, at the lowest priority.
    """

    def __init__(self, memory_mb: int, timeout_seconds: float, group: BackgroundGroup) -> None:
        self._memory_mb = memory_mb
        self._timeout_seconds = timeout_seconds
        self._group = group
        self._threads = ThreadPoolExecutor(thread_name_prefix="reader")  # its own, for it may be long

    async def ask(self, question: Question) -> bytes:
        """Return the answer, unchecked, and hardly longer than it may be. Raises UnreadableArtifact for none."""
        conversation = Conversation(self._task(question), self._group)
        answering = asyncio.get_running_loop().run_in_executor(self._threads, conversation.hold)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                code, content, words = await asyncio.shield(answering)
        except TimeoutError as error:
            raise self._too_slow() from error
        finally:
            conversation.end()
            await asyncio.wait((answering,))
        if len(content) <= ANSWER_BYTES_MAX and code:
            raise self._failed(code, words.decode(errors="replace"))
        return content

    def _task(self, question: Question) -> bytes:
        file_mb = max(1, UNPACKING_FACTOR * question.max_upload_bytes >> 20)
        return msgspec.json.encode(Task(question, self._memory_mb, file_mb))

    def _too_slow(self) -> UnreadableArtifact:
        return UnreadableArtifact(
            f"Reading the artifact took longer than {self._timeout_seconds:g} s.",
            hint="Export the model to ONNX, or raise PRISM_INSPECT_TIMEOUT_SECONDS.",
        )

    def _failed(self, code: int, words: str) -> UnreadableArtifact:
        """Make the error for a reader that came to no answer, and log it."""
        log.warning("a reader of artifacts gave no answer", code=code, words=words[-500:])
        if "out of memory" in words or "out-of-memory" in words or "MemoryError" in words:
            return UnreadableArtifact(
                f"Reading the artifact takes more than the {self._memory_mb} MiB of memory that a reader has.",
                hint="Export the model to ONNX, or raise PRISM_INSPECT_MEMORY_MB.",
            )
        number = -code if code < 0 else code - 128
        known = number in signal.valid_signals() if number > 0 else False
        what = f"was killed by signal {number} ({signal.Signals(number).name})" if known else f"ended with code {code}"
        return UnreadableArtifact(
            f"The process that read the artifact {what}.",
            hint="Save the model again, or export it to ONNX; its output is in the server's log.",
        )


class Conversation:
    """One reader, from its start to its end. For a thread of its own, which also starts it: uvloop would hold up every
    request for some milliseconds (`fork`), where `subprocess` holds up nobody (`vfork`)."""

    def __init__(self, task: bytes, group: BackgroundGroup) -> None:
        self._task = task
        self._group = group
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = False
        self._lock = Lock()

    def hold(self) -> tuple[int, bytes, bytes]:
        """Hold the conversation until the reader is gone; blocks. Returns its exit code, its answer and its words.

        Answer and words are at most a piece longer than they may be. Raises OSError if it cannot be started.
        """
        with self._lock:
            if self._is_over:
                return -signal.SIGKILL, b"", b""
            self._process = process = subprocess.Popen(
                self._group.command([sys.executable, "-I", "-S", str(PROGRAM), *filter(None, sys.path)]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=child_environment(),
                cwd="/",
            )
        with process:
            _send(process, self._task)
            content, words = self._listen(process)
        return process.returncode, content, words

    def end(self) -> None:
        """Kill the supervisor, and with it all that it watches; one that is not started yet never is."""
        with self._lock:
            self._is_over = True
            if self._process is not None:
                self._process.kill()

    def _listen(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        content, words = bytearray(), bytearray()
        with DefaultSelector() as selector:
            selector.register(_pipe(process.stdout), EVENT_READ, (content, ANSWER_BYTES_MAX))
            selector.register(_pipe(process.stderr), EVENT_READ, (words, WORDS_BYTES_MAX))
            while selector.get_map():
                heard = selector.select(LOOK_SECONDS)
                if not heard:
                    self._group.relieve()
                for key, _ in heard:
                    received, most = key.data
                    data = os.read(key.fd, PIECE_BYTES)
                    received += data
                    if not data:
                        selector.unregister(key.fileobj)
                    elif len(received) > most:
                        self.end()
                        return bytes(content), bytes(words)
        return bytes(content), bytes(words)


def _send(process: subprocess.Popen[bytes], task: bytes) -> None:
    stdin = _pipe(process.stdin)
    with contextlib.suppress(BrokenPipeError):  # it ended before it read that; its exit code says more
        while task:
            task = task[stdin.write(task) :]
    stdin.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # each of the three is one
    return pipe
