"""A peer, started in a copy of its folder, until it has answered once; and how it is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import msgspec

from scripts.peers import models
from scripts.peers.load import Load, load, write_script
from scripts.peers.peer import FOLDER, Peer, Setting, bodies, fill
from scripts.peers.process import free_ports, running, wait_until_open

START_SECONDS = 120
PORT_NAMES = ("port", "second_port", "third_port")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a machine's proxy is not for loopback


class Places(msgspec.Struct, frozen=True):
    """binaries: the peer's programs; work: an empty folder for this run; cache: what stays for the next run."""

    binaries: Path
    work: Path
    cache: Path


class Server(msgspec.Struct, frozen=True):
    """A running server. ask: sends one body, returns the answer's; raises OSError or ValueError."""

    url: str
    script: Path
    ask: Callable[[str], bytes]
    body: str
    start_seconds: float

    def load(self, connections: int, seconds: float) -> Load:
        """Returns once what wrk left in the server's queue is done, so that the next measurement starts on idle cores."""
        result = load(self.url, connections, seconds, self.script)
        with suppress(OSError):
            self.ask(self.body)
        return result


@contextmanager
def serving(name: str, peer: Peer, setting: Setting, places: Places, sample: models.Sample) -> Iterator[Server]:
    """Raises RuntimeError, with the end of the peer's log, if it does not come to answer."""
    began = time.monotonic()
    folder = places.work / name
    shutil.copytree(FOLDER / name, folder)
    models.write(sample, folder)
    ports = free_ports(3)
    values = {**dict(zip(PORT_NAMES, ports, strict=True)), "work": folder, "cache": places.cache}
    environ = _environment(peer, setting, places.binaries, values)
    requests = bodies(setting.body or peer.body, models.plain(sample.rows))
    write_script(folder / "load.lua", requests, peer.headers)
    url = f"http://127.0.0.1:{ports[0]}{setting.path or peer.path}"
    if setting.prepare:
        _run(_command(setting.prepare, environ, values), environ, folder)
    log = folder / "server.log"
    with running(_command(setting.command, environ, values), environ, folder, log) as process:
        try:
            wait_until_open(ports[0], process, START_SECONDS)
            if setting.deploy:
                _run(_command(setting.deploy, environ, values), environ, folder)
            _wait_for_answer(url, requests[0], peer.headers, process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; its log ends: {_tail(log)}") from error
        took = time.monotonic() - began
        yield Server(url, folder / "load.lua", lambda body: ask(url, body, peer.headers), requests[0], took)


def _environment(peer: Peer, setting: Setting, binaries: Path, values: dict[str, object]) -> dict[str, str]:
    """This process's, without what would configure the peer or PRISM by accident."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PRISM_", "MODEL_", "PYTHONPATH"))}
    given = {key: fill(value, values) for key, value in {**peer.environment, **setting.environment}.items()}
    return {**kept, **given, "PATH": f"{binaries}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def _command(template: Sequence[str], environ: dict[str, str], values: dict[str, object]) -> list[str]:
    program, *arguments = (fill(part, values) for part in template)
    return [shutil.which(program, path=environ["PATH"]) or program, *arguments]


def _run(command: Sequence[str], environ: dict[str, str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {(done.stdout + done.stderr).strip()[-400:]}")


def _wait_for_answer(url: str, body: str, headers: dict[str, str], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            ask(url, body, headers)
            return
        except (OSError, ValueError) as error:
            if process.poll() is not None:
                raise RuntimeError(f"ended with exit code {process.returncode}") from error
            if time.monotonic() > deadline:
                raise RuntimeError(f"gave no answer within {START_SECONDS} s: {error}") from error
        time.sleep(0.1)


def ask(url: str, body: str, headers: dict[str, str]) -> bytes:
    """Raises OSError, with the server's words where it has some, for anything but a 2xx."""
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json", **headers})
    try:
        with DIRECT.open(request, timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"HTTP {error.code}: {error.read()[:200]!r}") from error
    except HTTPException as error:
        raise OSError(f"not HTTP: {error!r}") from error


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-4:])[-500:]
