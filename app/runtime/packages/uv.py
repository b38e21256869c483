"""Runs uv, the resolver and installer of this Python environment, and finds the Pythons it can install for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uv

from app.core.child_environment import LANGUAGE, PYENV, USER, USER_FOLDERS, child_environment
from app.core.os_errors import problem_in
from app.errors import DeployFailed
from app.runtime.interpreter import own_interpreter
from app.runtime.packages.index import PackageIndex, machine_index
from app.runtime.target import Log

SUPPORTED = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
"""Python minors that a model's environment may have, oldest first."""

FOR_UV = (*USER, *LANGUAGE, *USER_FOLDERS)
QUIET = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_WRAP": "1"}
FOR_PROBES = (*USER, *LANGUAGE, *PYENV)
ERROR_LINES = 20
TORCH_HOST = "download.pytorch.org"
UNREACHABLE = (
    "The package index cannot be reached: check PIP_INDEX_URL, HTTPS_PROXY and `prism doctor`.",
    f"PyTorch's own index, {TORCH_HOST}, cannot be reached, and it alone has the build without a GPU's gigabytes: "
    "check HTTPS_PROXY, name an index or a folder of yours with PIP_INDEX_URL or PIP_FIND_LINKS, or set "
    "UV_TORCH_BACKEND= (to nothing) for the build of the usual index.",
)
"""The next step where the network is in the way of the usual index, and of PyTorch's."""

PROBE_SECONDS = 10.0
PROBE = (
    "import json, sys\n"
    "print(json.dumps([sys.implementation.name, '%d.%d' % sys.version_info[:2],"
    " getattr(sys, '_base_executable', None) or sys.executable]))"
)


async def run_uv(
    arguments: Sequence[str],
    *,
    log: Log,
    timeout_seconds: float,
    error: type[DeployFailed],
    stdin: str = "",
) -> str:
    """Run uv and return its standard output; its progress goes to `log` line by line, without credentials.

    The environment holds this machine's index configuration and nothing of ours. Raises `error` with uv's telling
    lines, also when it takes longer than `timeout_seconds`: then it and all it started are killed.
    """
    index = machine_index()
    command = [uv.find_uv_bin(), *arguments]
    if index.no_index and arguments[0] == "pip":
        command.append("--no-index")
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(FOR_UV, {**QUIET, **index.uv_environment()}),
        # "/" has no pyproject.toml or uv.toml, which uv would obey if it found them in the gateway's folder.
        cwd="/",
        start_new_session=True,
        limit=1 << 20,
    )
    messages: list[str] = []
    verb = " ".join(word for word in arguments[:2] if not word.startswith("-"))
    try:
        async with asyncio.timeout(timeout_seconds):
            output = await _converse(process, stdin, index, log, messages)
    except TimeoutError as timeout:
        raise error(
            f"`uv {verb}` did not finish within {timeout_seconds:g} s. {' '.join(messages[-3:])}".rstrip(),
            hint="Check that the package index answers (`prism doctor`), or raise PRISM_BUILD_TIMEOUT_SECONDS.",
            log_lines=messages[-ERROR_LINES:],
        ) from timeout
    finally:
        await _kill(process)
    if process.returncode:
        raise problem_in("\n".join(messages)) or error(
            f"`uv {verb}` failed: {' '.join(error_lines(messages)) or f'exit code {process.returncode}.'}",
            hint=hint_for("\n".join(messages)),
            log_lines=messages[-ERROR_LINES:],
        )
    return output


def error_lines(lines: Sequence[str]) -> list[str]:
    """Return what uv says of a failure: complaint and causes, without labels, drawing characters and advice."""
    complaints = (i for i, line in enumerate(lines) if re.match(r"\s*(error:|×|✗)", line))
    bare = (re.sub(r"^[\s│├╰─▶×✗]*(?:(?:error|cause):)?\s*", "", line).strip() for line in lines[next(complaints, 0) :])
    return [line for line in bare if line and not line.startswith("hint:")][:ERROR_LINES]


def hint_for(text: str) -> str:
    """Return the next step after a failure, by the words that uv uses for its cause."""
    lowered = text.lower()
    if "certificate" in lowered or "unknownissuer" in lowered:
        return "The index's certificate is not trusted: set PIP_CERT (or SSL_CERT_FILE) to your company's CA bundle."
    if re.search(r"(?<![\d.])40[137]\b(?!\.)|unauthorized|credentials", lowered):
        return "The index or proxy wants credentials: put them in PIP_INDEX_URL, HTTPS_PROXY, pip.conf or ~/.netrc."
    network = ("error sending request", "failed to fetch", "dns error", "tunnel", "connection refused", "timed out")
    if any(word in lowered for word in network):
        return UNREACHABLE[TORCH_HOST in lowered]
    if "no space left" in lowered:
        return "The disk is full: free some space, for example with `uv cache prune`."
    return "Give requirements that can be installed together, or another version of Python."


async def _converse(
    process: asyncio.subprocess.Process, stdin: str, index: PackageIndex, log: Log, messages: list[str]
) -> str:
    assert process.stdin  # all three are pipes, see run_uv
    assert process.stdout
    assert process.stderr

    async def feed(writer: asyncio.StreamWriter) -> None:
        # uv may have ended before it read this; uvloop then says RuntimeError of a closed pipe.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
            writer.write(stdin.encode())
            await writer.drain()
        writer.close()

    async def listen(reader: asyncio.StreamReader) -> None:
        async for raw in reader:
            line = index.redact(raw.decode(errors="replace").rstrip())
            if line:
                messages.append(line)
                log(line)

    _, _, output = await asyncio.gather(feed(process.stdin), listen(process.stderr), process.stdout.read())
    await process.wait()
    return output.decode(errors="replace")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End the process group, should the leader still run, e.g. after a timeout or a cancelled request."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


_interpreters: dict[str, str] = {}


async def find_interpreters() -> dict[str, str]:
    """Return Python minor → path of a working CPython of this machine, the gateway's own first, then newest first.

    Every candidate is asked, as a pyenv shim on PATH may lead nowhere. Found once in the life of the process.
    """
    if not _interpreters:
        _interpreters.update(await _search())
    return dict(_interpreters)


async def _search() -> dict[str, str]:
    own = "{}.{}".format(*sys.version_info[:2])
    candidates = interpreter_candidates(os.environ.get("PATH", ""), Path.home())
    at_once = asyncio.Semaphore(4)

    async def ask(path: str) -> tuple[str, str] | None:
        async with at_once:
            return await _probe(path)

    answers = await asyncio.gather(*(ask(path) for path in candidates))
    paths: dict[str, str] = {}
    for answer in answers:
        if answer and answer[0] in SUPPORTED:
            paths.setdefault(*answer)
    order = sorted(paths, key=lambda minor: (minor == own, SUPPORTED.index(minor)), reverse=True)
    return {minor: paths[minor] for minor in order}


def interpreter_candidates(path: str, home: Path) -> list[str]:
    """Return files that may be a supported Python: the gateway's own base, PATH, pyenv, uv, Homebrew, python.org."""
    slow = home / ".pyenv" / "shims"  # scripts that lead to what is found below anyway
    places = [
        *(Path(folder) for folder in path.split(os.pathsep) if folder and Path(folder) != slow),
        *sorted((home / ".pyenv" / "versions").glob("*/bin"), reverse=True),
        *sorted((home / ".local" / "share" / "uv" / "python").glob("cpython-*/bin"), reverse=True),
        *map(Path, ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")),
        *sorted(Path("/Library/Frameworks/Python.framework/Versions").glob("*/bin")),
    ]
    names = [f"python{minor}" for minor in SUPPORTED]
    files = [str(place / name) for place in places for name in names if os.access(place / name, os.X_OK)]
    return list(dict.fromkeys([own_interpreter(), *files]))


async def _probe(path: str) -> tuple[str, str] | None:
    try:
        process = await asyncio.create_subprocess_exec(
            *(path, "-I", "-S", "-c", PROBE),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environment(FOR_PROBES),
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PROBE_SECONDS)
    except TimeoutError:
        return None
    finally:
        await _kill(process)
    try:
        implementation, minor, executable = json.loads(output)
    except ValueError:
        return None
    return (minor, executable) if implementation == "cpython" else None
