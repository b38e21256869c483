"""Server on this machine: its record, its process, and how to start and stop it.

`python -m app.serve` writes the record when it accepts requests and removes it when it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app.errors import Conflict, NotFound, PrismError, StartFailed

if TYPE_CHECKING:
    from app.settings import Places, Settings

LOG_LIMIT_BYTES = 10_000_000
SERVER_PACKAGES = ("docker", "fastapi", "picklescan", "pydantic_settings", "uvicorn")
"""Modules of the extra `server`; a project with some of them of its own is not likely to have them all."""
PORT_PATIENCE_SECONDS = 3.0
"""Longest wait for a port in use: a server that was killed holds it until its memory is freed."""

SAME_START_SECONDS = 1.0
"""Largest difference between two readings of one process's start time, due to the clock's resolution.

Two processes with the same pid differ by more.
"""


class ServerRecord(msgspec.Struct, frozen=True):
    """Record of a running server.

    started: the process's creation time (Unix seconds), because its pid may be reused.
    """

    pid: int
    started: float
    host: str
    port: int
    url: str
    version: str = ""
    settings: dict[str, str] = {}


class Change(NamedTuple):
    """A setting that the server that runs has otherwise than one that is started now. source: of the new value."""

    setting: str
    old: str
    new: str
    source: str


@dataclass(frozen=True)
class ServerProcess:
    uptime_seconds: float
    memory_bytes: int


def is_installed() -> bool:
    """Return whether the server's packages are installed here, or those of the SDK and its commands alone."""
    return all(map(find_spec, SERVER_PACKAGES))


def require_installed() -> None:
    """Raise NotFound if the server is not installed here."""
    if not is_installed():
        raise NotFound(
            "The server is not installed here, only the SDK and the commands that speak to a server.",
            hint="Install `prism-serve[server]` instead of `prism-serve`, or name a server that runs: --url, or PRISM_URL.",
        )


def settings(**overrides: object) -> Settings:
    """Return the settings of this machine's server, checked.

    Raises InvalidSetting, and NotFound if the server is not installed here.
    """
    require_installed()
    from app.config.loading import load_settings
    from app.runtime.targets import allowed_targets

    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    allowed_targets(settings)
    return settings


def record_path(run_folder: Path) -> Path:
    return run_folder / "server.json"


def log_path(run_folder: Path) -> Path:
    return run_folder / "server.log"


def read_record(run_folder: Path) -> ServerRecord | None:
    """Return the record, whether stale or not; None if there is none that can be read."""
    try:
        return msgspec.json.decode(record_path(run_folder).read_bytes(), type=ServerRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def running(run_folder: Path) -> ServerRecord | None:
    """Return the record of the server that runs here; a stale record is removed."""
    record = read_record(run_folder)
    if record is not None and process_of(record) is not None:
        return record
    # Read it again: a server that is starting may just have written its own record.
    if record is not None and record == read_record(run_folder):
        record_path(run_folder).unlink(missing_ok=True)
    return None


def places() -> Places:
    """Return where the server's record and log are. Reads no other setting: none hides a server that runs.

    Raises NotFound if the server is not installed here.
    """
    require_installed()
    from app.config.loading import load_places

    return load_places()


def run_folder() -> Path:
    return places().run_folder


def known_url() -> str | None:
    """Return the URL of this machine's server, whether it runs or not; None if it is not installed here."""
    if not is_installed():
        return None
    record = read_record(run_folder())
    return record.url if record else f"http://127.0.0.1:{settings().port or 8000}"


def changes(record: ServerRecord, now: Settings, **chosen: object) -> list[Change]:
    """Return the settings that would change if the server were started again. chosen: on the command line."""
    from app.config.loading import sources
    from app.config.recorded import HIDDEN, changed, shown
    from app.settings import is_secret

    origins = sources()
    return [
        Change(
            field,
            HIDDEN if is_secret(field) and record.settings[field] else record.settings[field],
            shown(now, field),
            "the command line" if chosen.get(field) is not None else str(origins[field]),
        )
        for field in changed(record.settings, now)
    ]


def restart_command(changes: list[Change], run: str) -> str:
    """Return the command that applies changes, with the models running on where they need not start again, too."""
    from app.config.recorded import TAKEN_AT_A_MODELS_START

    concerns_models = any(change.setting in TAKEN_AT_A_MODELS_START for change in changes)
    if concerns_models:
        return f"prism stop && {run}   start the server and its models again"
    return f"prism stop --keep-models && {run}   start the server again; its models keep running"


def process_of(record: ServerRecord) -> ServerProcess | None:
    """Return facts about the process that wrote the record; None if that process is gone."""
    import psutil

    try:
        process = psutil.Process(record.pid)
        if abs(process.create_time() - record.started) > SAME_START_SECONDS or _is_dead(process):
            return None
        return ServerProcess(time.time() - process.create_time(), process.memory_info().rss)
    except psutil.Error:
        return None


def check_port(host: str, port: int, say: Callable[[str], None] | None = None) -> None:
    """Raise Conflict if another program listens on the port, naming the program if the system reveals it.

    say: tells once that a port in use is waited for, as a server that was killed may not be gone yet; None to wait for
    nothing.
    """
    if port and not _can_bind(host, port) and not (say and _becomes_free(host, port, say)):
        free = next((other for other in range(port + 1, min(port + 100, 65536)) if _can_bind(host, other)), 0)
        raise Conflict(
            f"Port {port} on {host} is taken{_listener(port)}.",
            hint=f"Stop that program, or use another port: `prism run {free}`, for good `prism config set port {free}`.",
        )


def _becomes_free(host: str, port: int, say: Callable[[str], None]) -> bool:
    say(f"Port {port} on {host} is in use{_listener(port)}; waiting up to {PORT_PATIENCE_SECONDS:g} s for it …")
    deadline = time.monotonic() + PORT_PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if _can_bind(host, port):
            return True
        time.sleep(0.05)
    return False


def start(here: Settings, wait_seconds: float = 60) -> ServerRecord:
    """Start the server in a new session and wait until it answers.

    Raises StartFailed with the last lines of its log if it ends or does not answer in time.
    """
    here.run_folder.mkdir(parents=True, exist_ok=True)
    log = log_path(here.run_folder)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
        begin = file.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command(),
            cwd=code_folder(),
            env=environment(here),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        return _wait_until_itanswers(here, process, begin, wait_seconds)
    except KeyboardInterrupt:
        process.terminate()
        raise


def command() -> list[str]:
    return [sys.executable, "-m", "app.serve"]


def code_folder() -> Path:
    """Return the folder that contains the package `app`. Run from there, the user's own `app` cannot shadow it."""
    import app

    return Path(str(app.__file__)).resolve().parent.parent


def environment(here: Settings) -> dict[str, str]:
    """Return the server's environment: this process's, plus the options of the command line."""
    from app.config.loading import VARIABLE, config_path

    chosen = {
        "PRISM_HOME": str(here.home.resolve()),
        "PRISM_HOST": here.host,
        "PRISM_PORT": str(here.port),
        "PRISM_TARGET": here.target,
        "PRISM_RELOAD": str(here.reload),
        "PYTHONUNBUFFERED": "1",
    }
    config = config_path()
    return {**os.environ, **chosen, **({VARIABLE: str(config)} if config.exists() else {})}


def stop(record: ServerRecord, run_folder: Path, *, keep_models: bool, wait_seconds: float = 60) -> None:
    """Stop the server, and its models unless they are kept. Raises Conflict if it does not end in time."""
    import psutil

    try:
        process = psutil.Process(record.pid)
        process.send_signal(signal.SIGUSR2 if keep_models else signal.SIGTERM)
        process.wait(wait_seconds)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired as error:
        raise Conflict(
            f"The server (pid {record.pid}) has not ended after {wait_seconds:g} s.",
            hint=f"See what it is waiting for in {log_path(run_folder)}; `kill -9 {record.pid}` ends it at once.",
        ) from error
    except psutil.AccessDenied as error:
        raise Conflict(
            f"The server (pid {record.pid}) belongs to another user.", hint="Run `prism stop` as that user."
        ) from error
    running(run_folder)


def _wait_until_itanswers(
    here: Settings, process: subprocess.Popen[bytes], begin: int, wait_seconds: float
) -> ServerRecord:
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        record = running(here.run_folder)
        if record and answers(record.url):
            return record
        if process.poll() is not None:
            raise _failed(f"The server ended with exit code {process.returncode} before it answered.", here, begin)
        time.sleep(0.05)
    raise _failed(f"The server (pid {process.pid}) does not answer after {wait_seconds:g} s.", here, begin)


def _failed(detail: str, here: Settings, begin: int) -> PrismError:
    log = log_path(here.run_folder)
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return StartFailed(detail, hint=f"The whole log: {log}. `prism doctor` checks this machine.", log_lines=lines[-20:])


def answers(url: str) -> bool:
    from prism.client import Prism
    from prism.errors import APIError
    from prism.errors import PrismError as NoAnswer
    from prism.requests import Timeouts

    with Prism(url, max_retries=0, timeouts=Timeouts(connect_seconds=2, request_seconds=5)) as client:
        try:
            client.health()
        except APIError as error:
            return error.status < 500
        except NoAnswer:
            return False
    return True


def _can_bind(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _listener(port: int) -> str:
    """Name the program that listens there, as ` by pid 123 (nginx)`; "" if the system does not reveal it."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and getattr(connection.laddr, "port", 0) == port
                and connection.pid
            ):
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return ""


def _is_dead(process: object) -> bool:
    import psutil

    return isinstance(process, psutil.Process) and process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
