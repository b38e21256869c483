"""The program of a reader: reads one artifact in its own sandbox, reports what is in it, and exits.

    python -I -S reader.py <folder of sys.path> …   a Task on standard input, an Answer on standard output

It is PRISM's own code in PRISM's own Python, started for each artifact. What it needs is imported first; then it shuts
itself in, with the artifact alone to read, and only then looks at a byte of that.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    os.nice(19)  # also while it is imported: the live models come first
    ROOT = str(Path(__file__).resolve().parent.parent.parent)
    sys.path[:] = list(dict.fromkeys((*sys.path, ROOT, *sys.argv[1:])))

import msgspec
import yaml

import app.artifact.read as reading
from app.artifact.folder import read_config
from app.artifact.formats.onnx import read_onnx
from app.artifact.owner_code import read_code
from app.core.reading import ANSWER_BYTES_MAX, DETAIL_MAX, STORAGE, Answer, Question, Refusal, Task
from app.errors import BadInput, PrismError, UnreadableArtifact
from model_container.contract.config import Confinement
from model_container.sandbox import syscalls
from model_container.sandbox.confine import confine

assert yaml  # read later, when the files of its package are out of reach

PROCESSES = 8


def main() -> None:
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever is printed is no answer
    _end_with_the_gateway()
    gc.disable()  # it lives for one artifact, and walks through millions of objects
    report = confine(_confinement(task))
    content = answer(task.question, tuple(report["missing"]))
    with os.fdopen(answers, "wb") as out:
        out.write(content)
    sys.stderr.flush()
    os._exit(0)  # nothing is left to be put in order


def answer(question: Question, missing: tuple[str, ...] = ()) -> bytes:
    """Return an Answer as JSON, of at most ANSWER_BYTES_MAX. Whatever goes wrong becomes a refusal."""
    try:
        reading = msgspec.json.encode(_read(question))
        if len(reading) > ANSWER_BYTES_MAX // 2:
            raise UnreadableArtifact(
                f"The artifact's description of itself takes {len(reading) >> 10} KiB, but at most "
                f"{ANSWER_BYTES_MAX >> 11} KiB are allowed.",
                hint="No real model describes itself at such length; save it again, or export it to ONNX.",
            )
        return msgspec.json.encode(Answer(found=msgspec.Raw(reading), missing=missing))
    except BadInput as error:
        return msgspec.json.encode(Answer(refusal=_refusal(error), missing=missing))
    except MemoryError:
        gc.collect()
        return msgspec.json.encode(Answer(refusal=_refusal(_too_much()), missing=missing))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in STORAGE:
            return msgspec.json.encode(Answer(errno=error.errno, missing=missing))
        reason = f"{type(error).__name__}: {error}"
        refusal = UnreadableArtifact(
            f"The artifact cannot be read: {reason[:300]!a}.", hint="Save the model again, or export it to ONNX."
        )
        return msgspec.json.encode(Answer(refusal=_refusal(refusal), missing=missing))


def _read(question: Question) -> object:
    path = Path(question.path)
    if question.what == "artifact":
        return reading.read_artifact(path, question.filename, Path(question.staging), question.max_upload_bytes)
    if question.what == "folder":
        return reading.read_folder(path, of_models_folder=True)
    if question.what == "config":
        return read_config(path)
    if question.code is not None:
        return read_code(path, question.code)
    return read_onnx(path) is not None


def _refusal(error: PrismError) -> Refusal:
    return Refusal(error.code, _cut(error.detail), _cut(error.hint), error.values)  # type: ignore[arg-type]


def _cut(text: str) -> str:
    valid = text.encode(errors="backslashreplace").decode()
    return valid if len(valid) <= DETAIL_MAX else f"{valid[: DETAIL_MAX - 1]}…"


def _too_much() -> UnreadableArtifact:
    limit_mb = resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20
    return UnreadableArtifact(
        f"Reading the artifact takes more than the {limit_mb} MiB of memory that a reader has.",
        hint="Export the model to ONNX, or raise PRISM_INSPECT_MEMORY_MB.",
    )


def _confinement(task: Task) -> Confinement:
    staging = task.question.staging
    return Confinement(
        namespaces=True,
        readable=[task.question.path],
        writable=[staging] if staging else [],
        memory_mb=task.memory_mb,
        pids=PROCESSES,
        file_mb=task.file_mb,
        background=True,
    )


def _end_with_the_gateway() -> None:
    """Have this process killed with the gateway, as nobody waits for it then. The supervisor passes the signal on."""
    if syscalls.LINUX:
        with suppress(OSError):
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, int(signal.SIGKILL))


if __name__ == "__main__":
    main()
