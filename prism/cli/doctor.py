"""`prism doctor`: what this machine has and lacks, each finding with its mend.

The one command that imports the server's own code, for it is about the server's machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from app.errors import BuildFailed, PrismError
from prism.cli import local_server
from prism.cli.output import duration, size, table
from prism.cli.session import ERROR, Json, session

if TYPE_CHECKING:
    from app.settings import Settings

LEAST_DISK_BYTES = 1_000_000_000
"""Less than one environment with scikit-learn, and its copy while it is built."""
AMPLE_DISK_BYTES = 5_000_000_000
INDEX_SECONDS = 60
SMALL_PACKAGE = "idna"
"""One wheel of 70 kB without dependencies, on every index that serves Python web software."""


@dataclass(frozen=True)
class Finding:
    """fail: something needed does not work. warn: it works, but less well or less safely than it could."""

    level: Literal["ok", "warn", "fail"]
    about: str
    found: str
    mend: str = ""


def doctor(as_json: Json = False) -> None:
    """Check this machine: Python, uv, engine, package index, isolation, disk, port, settings, server."""
    with session(as_json) as here:
        here.output.say("Examining this machine …")
        findings = list(examine())
        here.output.data({"findings": [asdict(finding) for finding in findings]}, report(findings))
        if any(finding.level == "fail" for finding in findings):
            raise typer.Exit(ERROR)
        here.output.next_step("prism run")


def examine() -> Iterator[Finding]:
    """Every finding, in the order in which one would mend them. Settings come first: the others need them."""
    yield _python()
    try:
        settings = local_server.settings()
    except PrismError as error:
        yield Finding("fail", "settings", error.detail, error.hint)
        return
    yield Finding("ok", "settings", f"valid; home is {settings.home}")
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _uv,
        _interpreters,
        _index,
        _engine,
        _isolation,
        _disk,
        _port,
        _exposure,
        _server,
    )
    for check in checks:
        yield check(settings)


def report(findings: list[Finding]) -> str:
    rows = [(finding.level, finding.about, finding.found) for finding in findings]
    mends = [f"{finding.about}: {finding.mend}" for finding in findings if finding.mend]
    listing = table(("", "CHECK", "FOUND"), rows)
    return "\n\n".join((listing, "To mend:\n  " + "\n  ".join(mends))) if mends else listing


def _python() -> Finding:
    """An older Python than PRISM supports could not have imported this file."""
    version = "{}.{}.{}".format(*sys.version_info[:3])
    return Finding("ok", "python", f"{version} at {sys.executable}")


def _uv(settings: Settings) -> Finding:
    import uv

    try:
        return Finding("ok", "uv", uv.find_uv_bin())
    except FileNotFoundError as error:
        return Finding("fail", "uv", str(error), f"{sys.executable} -m pip install uv")


def _interpreters(settings: Settings) -> Finding:
    from app.runtime.uv import find_interpreters

    found = asyncio.run(find_interpreters())
    listed = ", ".join(found) or "none"
    if not found:
        return Finding("fail", "pythons", "none that a model's environment could be made with", "Install Python 3.11.")
    return Finding("ok", "pythons", f"models without Docker can use {listed}")


def _index(settings: Settings) -> Finding:
    """Resolves one small package, past every cache, with the configuration that builds will have."""
    from time import monotonic

    from app.runtime.uv import run_uv

    arguments = ["pip", "compile", "-", "--no-cache", "--no-deps", "--no-header"]
    began = monotonic()
    try:
        resolved = asyncio.run(
            run_uv(
                arguments,
                log=lambda line: None,
                timeout_seconds=INDEX_SECONDS,
                error=BuildFailed,
                stdin=SMALL_PACKAGE,
            )
        )
    except PrismError as error:
        return Finding("fail", "package index", error.detail, error.hint)
    package = next((line for line in resolved.splitlines() if line.startswith(SMALL_PACKAGE)), SMALL_PACKAGE)
    return Finding("ok", "package index", f"answers: {package} in {duration(monotonic() - began)}")


def _engine(settings: Settings) -> Finding:
    import docker
    from docker.errors import DockerException

    if settings.target == "process":
        return Finding("ok", "docker engine", "not needed: PRISM_TARGET=process")
    try:
        client = docker.from_env(timeout=5)
        try:
            version = client.version()["Version"]
        finally:
            client.close()
    except (DockerException, OSError) as error:
        reason = str(error).splitlines()[0]
        if settings.target == "docker":
            return Finding("fail", "docker engine", reason, "Start the Docker engine, or unset PRISM_TARGET.")
        mend = "Models run as processes. For containers, install and start a Docker engine you may use."
        return Finding("warn", "docker engine", f"none answers ({reason})", mend)
    return Finding("ok", "docker engine", f"{version}; models run in containers")


def _isolation(settings: Settings) -> Finding:
    """How far the process target is closed; said also where Docker is there, for the target can be chosen."""
    from app.runtime.walls import survey

    closed = survey()
    walls = {"network": "network", "files": "files", "processes": "other processes", "syscalls": "system calls"}
    shut = [told for wall, told in walls.items() if closed.get(wall)]
    open_ = [told for wall, told in walls.items() if not closed.get(wall)]
    found = f"closed: {', '.join(shut) or 'nothing'}" + (f"; open: {', '.join(open_)}" if open_ else "")
    if not open_:
        return Finding("ok", "process target", found)
    mend = "Without Docker, serve only models you trust, or use a kernel with user namespaces, Landlock and seccomp."
    return Finding("warn", "process target", found, mend)


def _disk(settings: Settings) -> Finding:
    folder = settings.upload_root
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Finding(
            "fail", "disk", f"{existing} cannot be written", f"Run `chown` on it, or set {_home_variable()}."
        )
    level: Literal["ok", "warn", "fail"] = "ok" if free > AMPLE_DISK_BYTES else "warn"
    level = "fail" if free < LEAST_DISK_BYTES else level
    mend = "" if level == "ok" else f"Free some space, or set {_home_variable()} to a larger disk."
    return Finding(level, "disk", f"{size(free)} free for {folder}", mend)


def _port(settings: Settings) -> Finding:
    if record := local_server.running(settings.run_folder):
        return Finding("ok", "port", f"{record.port} is our own server's")
    try:
        local_server.check_port(settings.host, settings.port)
    except PrismError as error:
        return Finding("fail", "port", error.detail, error.hint)
    return Finding("ok", "port", f"{settings.port} on {settings.host} is free")


def _exposure(settings: Settings) -> Finding:
    from prism.connection import is_loopback

    if settings.host and is_loopback(f"http://{settings.host}"):
        return Finding("ok", "exposure", f"only this machine reaches {settings.host}")
    if settings.keys:
        return Finding("ok", "exposure", f"{settings.host} can be reached from elsewhere; keys are set")
    return Finding(
        "fail",
        "exposure",
        f"{settings.host} can be reached from elsewhere and no key is set: the server will not start",
        "Set PRISM_API_KEYS, or listen on 127.0.0.1.",
    )


def _server(settings: Settings) -> Finding:
    record = local_server.running(settings.run_folder)
    if record is None:
        return Finding("ok", "server", "not running; `prism run` starts it")
    if not local_server.answers(record.url):
        log = local_server.log_path(settings.run_folder)
        mend = f"See {log}; `prism stop` and `prism run` start it anew."
        return Finding("fail", "server", f"pid {record.pid} does not answer at {record.url}", mend)
    return Finding("ok", "server", f"answers at {record.url} (pid {record.pid})")


def _home_variable() -> str:
    from app.settings import variable

    return variable("home")
