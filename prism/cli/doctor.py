"""`prism doctor`: what this machine has and lacks, with a remedy for each problem.

This is the only command that imports the server's own code, since it checks the server's machine.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import typer

from app.errors import BuildFailed, PrismError
from app.runtime.doctor import Check, disk, engine, gpu, interpreters, isolation, uv
from app.version import VERSION
from prism.cli import local_server
from prism.cli.output import duration, table
from prism.cli.session import ERROR, Config, Json, session

if TYPE_CHECKING:
    from app.settings import Settings
    from prism.responses import Health

INDEX_SECONDS = 60
SMALL_PACKAGE = "idna"
"""Package of one wheel of 70 kB without dependencies, on every index that serves Python web software."""


def doctor(config: Config = None, as_json: Json = False) -> None:
    """Check this machine: Python, uv, engine, GPU, package index, isolation, disk, port, settings, server.

    A server that runs is asked what it finds by its own settings, and how it and its models are.
    """
    with session(as_json, config=config) as here:
        here.output.say("Checking this machine …")
        checks = list(examine())
        here.output.data({"checks": [asdict(check) for check in checks]}, report(checks))
        if any(check.level == "fail" for check in checks):
            raise typer.Exit(ERROR)
        if not any(check.name == "server" and check.result.startswith("answers") for check in checks):
            here.output.next_step("prism run")


def examine() -> Iterator[Check]:
    """Yield every check, in the order in which to fix what they find.

    Settings come first because the other checks need them.
    """
    yield _python()
    try:
        settings = local_server.settings()
    except PrismError as error:
        yield Check("fail", "settings", error.detail, error.hint)
        return
    yield Check("ok", "settings", f"valid; home is {settings.home}, config is {_config()}")
    record = local_server.running(settings.run_folder)
    told = server_checks(record) if record else [Check("ok", "server", "not running; `prism run` starts it")]
    by_server = {check.name: check for check in told}
    for name, examination in EXAMINATIONS.items():
        yield by_server.pop(name) if name in by_server else examination(settings)
    yield from by_server.values()


def report(checks: list[Check]) -> str:
    rows = [(check.level, check.name, check.result) for check in checks]
    fixes = [f"{check.name}: {check.fix}" for check in checks if check.fix]
    listing = table(("", "CHECK", "FOUND"), rows)
    return "\n\n".join((listing, "To fix:\n  " + "\n  ".join(fixes))) if fixes else listing


def _python() -> Check:
    """Report the Python version. An older Python than PRISM supports could not have imported this file."""
    version = "{}.{}.{}".format(*sys.version_info[:3])
    return Check("ok", "python", f"{version} at {sys.executable}")


def _config() -> str:
    from app.config.loading import config_path

    path = config_path()
    return str(path) if path.exists() else f"not there yet ({path})"


def _index(settings: Settings) -> Check:
    """Resolve one small package, bypassing every cache, with the configuration that builds will use."""
    from time import monotonic

    from app.runtime.packages.uv import run_uv

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
        return Check("fail", "package index", error.detail, error.hint)
    package = next((line for line in resolved.splitlines() if line.startswith(SMALL_PACKAGE)), SMALL_PACKAGE)
    return Check("ok", "package index", f"answers: {package} in {duration(monotonic() - began)}")


def _port(settings: Settings) -> Check:
    if record := local_server.running(settings.run_folder):
        return Check("ok", "port", f"{record.port} is used by this PRISM server")
    try:
        local_server.check_port(settings.host, settings.port, say=lambda _: None)
    except PrismError as error:
        return Check("fail", "port", error.detail, error.hint)
    return Check("ok", "port", f"{settings.port} on {settings.host} is free")


def _exposure(settings: Settings) -> Check:
    from prism.connection import is_loopback

    if settings.host and is_loopback(f"http://{settings.host}"):
        return Check("ok", "exposure", f"only this machine reaches {settings.host}")
    if settings.keys_of_admins:
        return Check("ok", "exposure", f"{settings.host} can be reached from other machines; admin keys are set")
    return Check(
        "fail",
        "exposure",
        f"{settings.host} can be reached from other machines, but no admin key is set: the server will not start",
        "Set PRISM_ADMIN_KEYS, or listen on 127.0.0.1.",
    )


def server_checks(record: local_server.ServerRecord) -> list[Check]:
    """Return what a running server finds on its machine, and how it is itself."""
    from prism.client import Prism
    from prism.errors import PrismError as ServerError

    where = f"{record.url} (pid {record.pid})"
    try:
        with Prism(record.url, max_retries=0) as client:
            health, unsaved = client.health(), client.monitor().get("unsaved", [])
            try:
                found = [msgspec.convert(check, Check) for check in client.doctor()["checks"]]
            except ServerError as error:  # it wants a key, or is older than this command
                found = [Check("warn", "server's own checks", error.detail, "Set PRISM_API_KEY to an admin key.")]
    except ServerError:
        log = local_server.log_path(local_server.settings().run_folder)
        fix = f"See {log}; restart it with `prism stop` and `prism run`."
        return [Check("fail", "server", f"pid {record.pid} does not answer at {record.url}", fix)]
    return [*found, _server(where, health, unsaved)]


def _server(where: str, health: Health, unsaved: list[dict[str, Any]]) -> Check:
    """Judge a server that answers. unsaved: what it could not write to the disk."""
    gone = ", ".join(health.unavailable)
    troubles = [
        (bool(health.unavailable), f"{gone} does not answer", "Start the engine; see `docker info`."),
        (bool(health.down), f"models that should be live are not: {', '.join(health.down)}", "See `prism status`."),
        (bool(unsaved), "changes are not on disk yet", "See `prism open`, Settings, for what is in the way."),
        (health.version != VERSION, f"version {health.version}, this command {VERSION}", "`prism stop`, `prism run`."),
    ]
    met = [(result, fix) for is_met, result, fix in troubles if is_met]
    if not met:
        return Check("ok", "server", f"answers at {where}")
    level: Literal["warn", "fail"] = "fail" if health.unavailable or health.down or unsaved else "warn"
    return Check(level, "server", f"{where}: {'; '.join(result for result, _ in met)}", " ".join(fix for _, fix in met))


EXAMINATIONS: dict[str, Callable[[Settings], Check]] = {
    "uv": uv,
    "pythons": interpreters,
    "package index": _index,
    "docker engine": engine,
    "gpu": gpu,
    "process target": isolation,
    "disk": disk,
    "port": _port,
    "exposure": _exposure,
}
"""The examinations by the names of their checks; what a running server found itself stands in their place."""
