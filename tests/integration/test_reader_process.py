"""The confined child that reads an artifact: what it inherits, what it may touch, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.core.reading import Question, Reading
from app.errors import UnreadableArtifact
from app.lifecycle.intake.readers import Readers
from app.runtime import reader_process
from app.runtime.process.background_group import BackgroundGroup
from app.runtime.process.cgroup_places import find_place
from app.runtime.reader_process import ReaderProcess
from tests.fakes import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux; use a Linux machine")

SECONDS = 600.0
READERS = f"prism-test-readers-{os.getpid()}"
GROUP = BackgroundGroup(READERS)


@pytest.fixture(scope="module", autouse=True)
def _without_a_trace() -> Iterator[None]:
    yield
    GROUP.remove()


def idle_groups() -> Path | None:
    """Where groups can be made that give way to all others; None on a machine that lets us make none."""
    try:
        cpu = find_place().folders["cpu"]
        (cpu / "prism-test-probe").mkdir()
        (cpu / "prism-test-probe").rmdir()
    except (OSError, KeyError):
        return None
    return cpu


def bomb(objects: int = 9_000_000) -> bytes:
    """Some kilobytes that are millions of dictionaries to whoever reads them."""
    return zlib.compress(b"\x80\x02" + b"}" * objects + b"0" * (objects - 1) + b".", 9)


@pytest.fixture
def question(tmp_path: Path) -> Question:
    (tmp_path / "artifact.pkl").write_bytes(bomb())
    (tmp_path / "staging").mkdir()
    return Question("artifact", str(tmp_path / "artifact.pkl"), "m.pkl", str(tmp_path / "staging"), 1 << 20)


async def read(question: Question, memory_mb: int = 1024, timeout_seconds: float = SECONDS) -> Reading:
    return await Readers(ReaderProcess(memory_mb, timeout_seconds, GROUP).ask).read(question)


def readers() -> list[psutil.Process]:
    """Return this process's readers: the supervisor and, once the sandbox is active, the process that reads."""
    return [one for one in psutil.Process().children(recursive=True) if is_reader(one)]


def is_reader(process: psutil.Process) -> bool:
    try:
        return any(argument.endswith("reader.py") for argument in process.cmdline())
    except psutil.Error:
        return False


async def test_a_reader_inherits_nothing_and_has_the_lowest_priority(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISM_ADMIN_KEYS", "a-secret")
    task = asyncio.create_task(read(question))
    await eventually(lambda: len(readers()) == 2, SECONDS)
    for one in readers() if os.geteuid() == 0 else readers()[-1:]:
        environ = Path(f"/proc/{one.pid}/environ").read_bytes()
        assert b"a-secret" not in environ
        assert not {entry.split(b"=")[0].decode() for entry in environ.split(b"\0") if entry} - {"PATH", "LANG"}
    who_reads = readers()[-1]
    await eventually(lambda: os.sched_getscheduler(who_reads.pid) == os.SCHED_BATCH, SECONDS)
    assert who_reads.nice() == 19
    await stop(task)
    assert readers() == []


def is_removed(group: Path) -> bool:
    GROUP.remove()  # a process that has just ended still counts for a moment
    return not group.exists()


async def test_a_reader_runs_only_on_an_idle_cpu(question: Question) -> None:
    cpu = idle_groups()
    task = asyncio.create_task(read(question))
    await eventually(lambda: len(readers()) == 2, SECONDS)
    groups = {Path(f"/proc/{one.pid}/cgroup").read_text() for one in readers()}
    await stop(task)
    own = Path("/proc/self/cgroup").read_text()
    assert {text != own for text in groups} == {cpu is not None}
    if cpu is not None:
        assert all(READERS in text for text in groups)
        await eventually(lambda: is_removed(cpu / READERS), SECONDS)


async def stop(task: asyncio.Task[Reading]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: not readers(), SECONDS)


@pytest.mark.parametrize("who", [0, -1])
async def test_a_killed_reader_is_a_refusal(question: Question, who: int) -> None:
    task = asyncio.create_task(read(question))
    await eventually(lambda: len(readers()) == 2, SECONDS)
    readers()[who].send_signal(signal.SIGKILL)
    with pytest.raises(UnreadableArtifact, match=r"killed by signal 9 \(SIGKILL\)") as caught:
        await task
    assert caught.value.hint
    await eventually(lambda: not readers(), SECONDS)


async def test_a_reader_over_its_memory_limit_is_a_refusal(question: Question) -> None:
    Path(question.path).write_bytes(bomb(1_500_000))
    with pytest.raises(UnreadableArtifact, match="more than the 64 MiB of memory") as caught:
        await read(question, memory_mb=64)
    assert "PRISM_INSPECT_MEMORY_MB" in caught.value.hint


async def test_a_reader_over_its_time_limit_is_a_refusal(question: Question) -> None:
    with pytest.raises(UnreadableArtifact, match=r"longer than 0.2 s") as caught:
        await read(question, timeout_seconds=0.2)
    assert "PRISM_INSPECT_TIMEOUT_SECONDS" in caught.value.hint
    assert readers() == []


async def test_no_reader_outlives_a_killed_gateway(question: Question) -> None:
    code = (
        "import asyncio, sys\nfrom app.core.reading import Question\n"
        "from app.runtime.process.background_group import BackgroundGroup\n"
        "from app.runtime.reader_process import ReaderProcess\n"
        "asyncio.run(ReaderProcess(1024, 100, BackgroundGroup(sys.argv[5])).ask(Question(*sys.argv[1:5], 1 << 20)))"
    )
    arguments = ("artifact", question.path, "m.pkl", question.staging, READERS)
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *arguments)
    await eventually(lambda: len(readers()) == 2, SECONDS)
    left = readers()
    gateway.kill()
    await gateway.wait()
    await eventually(lambda: not any(one.is_running() and one.status() != "zombie" for one in left), SECONDS)


Program = Callable[[str], None]


@pytest.fixture
def gadget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Has the reader do this in place of reading, as a hole in a parser would."""

    def install(code: str) -> None:
        program = tmp_path / "reader.py"
        root = Path(reader_process.__file__).parents[2]
        program.write_text(
            f"import os, socket, sys\nfrom pathlib import Path\nsys.path[:0] = [{str(root)!r}, *sys.argv[1:]]\n"
            "from app.artifact import reader\n"
            f"def gadget(path, filename, staging, most):\n{textwrap.indent(textwrap.dedent(code), '    ')}\n"
            "reader.reading.read_artifact = gadget\nreader.main()\n"
        )
        monkeypatch.setattr(reader_process, "PROGRAM", program)

    return install


TRIES = """
outside = Path({outside!r})
tries = {{
    "read": lambda: (outside / "secret").read_text(),
    "list": lambda: os.listdir(outside),
    "write": lambda: (outside / "mine").write_text("x"),
    "artifact": lambda: path.write_text("x"),
    "signal": lambda: os.kill({pid}, 0),
    "connect": lambda: socket.create_connection(("127.0.0.1", {port}), 1),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": lambda: socket.socket(socket.AF_UNIX).connect({unix!r}),
    "environ": lambda: os.environ["PRISM_ADMIN_KEYS"],
}}
done = []
for name, attempt in tries.items():
    try:
        attempt()
        done.append(name)
    except (OSError, KeyError):
        pass
(staging / "mine").write_text("x")
path.with_name("mine").write_text("x")  # in a tmpfs of its own, if at all
raise reader.UnreadableArtifact("done: " + ",".join(done))
"""


async def test_a_hole_in_a_parser_does_not_escape_the_reader(
    question: Question,
    gadget: Program,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRISM_ADMIN_KEYS", "a-secret")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("secret")
    unix = str(outside / "s")
    tcp = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    local = await asyncio.start_unix_server(lambda *_: None, unix)
    async with tcp, local:
        port = tcp.sockets[0].getsockname()[1]
        gadget(TRIES.format(outside=str(outside), pid=os.getpid(), port=port, unix=unix))
        with pytest.raises(UnreadableArtifact) as caught:
            await read(question)
    assert caught.value.detail == "done: "
    assert (Path(question.staging) / "mine").exists()  # the one place that it may write to
    assert not Path(question.path).with_name("mine").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(7)", "ended with code 7"),
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
        ("raise ZeroDivisionError('so')", "ZeroDivisionError: so"),
        ("def deeper(n): return deeper(n + 1) + 1\ndeeper(0)", "RecursionError"),
        (
            "for number in range(3, 50):\n    try:\n        os.write(number, b'x' * 65536)\n    except OSError:\n        pass",
            "invalid answer",
        ),
        (
            "os.write(3, b'x' * (5 << 20))\nos.write(4, b'x' * (5 << 20))\nos.write(5, b'x' * (5 << 20))",
            "larger than 4 MiB",
        ),
        ("while True: os.write(2, b'x' * 65536)", "SIGKILL"),
    ],
)
async def test_a_crash_or_a_lie_of_a_reader_is_a_refusal(
    question: Question, gadget: Program, code: str, reason: str
) -> None:
    gadget(code)
    with pytest.raises(UnreadableArtifact, match=reason) as caught:
        await read(question, timeout_seconds=SECONDS)
    assert caught.value.hint
    assert readers() == []
