"""`prism service install`, `uninstall`, `status`: the server as a service of systemd, started with the machine."""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import Conflict, StartFailed
from prism.cli import local_server
from prism.cli.help import Group, examples
from prism.cli.output import Output
from prism.cli.session import NOT_FOUND, UNHEALTHY, Config, Json, Session, session
from prism.cli.systemd import NAME, WRITTEN, Manager, environment_file, manager, unit_text

if TYPE_CHECKING:
    from app.settings import Settings

START_SECONDS = 60
LINGER = Path("/var/lib/systemd/linger")
"""Has a file for each user whose systemd runs from the machine's start on: loginctl(1)."""

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def service_of_a_server_here() -> None:
    """Run the server as a service of systemd: your own, or as root the machine's."""
    with session():
        local_server.require_installed()


Own = Annotated[bool, typer.Option("--user", help="A service of your own, also as root.")]


@app.command(epilog=examples("prism service install", "prism service install --config prism.yaml"))
def install(own: Own = False, config: Config = None, as_json: Json = False) -> None:
    """Write the unit, start the server, and start it with the machine from now on. Again: bring the unit up to date."""
    with session(as_json, config=config) as here:
        systemd = manager(own)
        settings = _settings(here.output)
        text = unit_text(settings.home.resolve(), _config(), systemd.is_system)
        _refuse_another_server(systemd, settings)
        changed = _write(systemd.unit, text)
        systemd.control("daemon-reload")
        systemd.control("enable", NAME)
        serving = _record(systemd, settings.run_folder)
        record = serving or _start(here, systemd, settings)
        here.output.data(
            {"unit": str(systemd.unit), "url": record.url, "pid": record.pid, "changed": changed},
            f"PRISM runs at {record.url} as the service {NAME.removesuffix('.service')}.\n{systemd.unit}",
        )
        if changed and serving:
            here.output.next_step(f"{systemd.command('restart', 'prism')}   run it as the changed unit says")
        if not systemd.is_system and not (LINGER / getpass.getuser()).exists():
            here.output.next_step("loginctl enable-linger   start it with the machine, not with your first login")
        here.output.next_step("prism service status", systemd.journal)


@app.command(epilog=examples("prism service uninstall"))
def uninstall(own: Own = False, config: Config = None, as_json: Json = False) -> None:
    """Stop the service and its models, and remove its unit. Models, settings and environments stay in the home folder."""
    with session(as_json, config=config) as here:
        systemd = manager(own)
        if not systemd.unit.exists():
            here.output.data({"uninstalled": False}, f"No service is installed: there is no {systemd.unit}.")
            return
        _refuse_foreign(systemd.unit)
        here.output.say(f"Stopping {NAME} …")
        systemd.control("disable", "--now", NAME)
        systemd.unit.unlink()
        systemd.control("daemon-reload")
        home = local_server.places().home.resolve()
        here.output.data(
            {"uninstalled": True, "unit": str(systemd.unit), "home": str(home)},
            f"The service is gone. Your models and settings are still in {home}.",
        )
        here.output.next_step("prism run   start the server without a service")


@app.command(epilog=examples("prism service status"))
def status(own: Own = False, config: Config = None, as_json: Json = False) -> None:
    """Show whether the service is installed and runs. Exit code 3: not installed; 4: it does not run."""
    with session(as_json, config=config) as here:
        systemd = manager(own)
        if not systemd.unit.exists():
            here.output.data({"installed": False}, f"No service is installed: there is no {systemd.unit}.")
            here.output.next_step("prism service install")
            raise typer.Exit(NOT_FOUND)
        found = systemd.properties("ActiveState", "SubState", "UnitFileState", "MainPID", "NRestarts")
        record = _record(systemd, local_server.run_folder())
        url = record.url if record else None
        document = {
            "installed": True,
            "unit": str(systemd.unit),
            "state": found["ActiveState"],
            "starts_with_the_machine": found["UnitFileState"] == "enabled",
            "pid": int(found["MainPID"] or 0) or None,
            "restarts": int(found["NRestarts"] or 0),
            "url": url,
        }
        told = f"{NAME}: {found['ActiveState']} ({found['SubState']}), {found['UnitFileState']}"
        here.output.data(document, f"{told}, {url}\n{systemd.unit}" if url else f"{told}\n{systemd.unit}")
        if found["ActiveState"] != "active":
            here.output.next_step(systemd.command("start", "prism"), systemd.journal)
            raise typer.Exit(UNHEALTHY)


def _settings(output: Output) -> Settings:
    """Return the settings, checked, and say which variables of this shell the service will not see."""
    from app.prepare import require_admin_key

    settings = local_server.settings()
    require_admin_key(settings)
    file = environment_file(settings.home.resolve())
    if lost := sorted(_variables_used() - _variables_of(file)):
        output.say(
            f"The service does not see {', '.join(lost)} of this shell. `prism config set`, or {file}, make it last."
        )
    return settings


def _variables_used() -> set[str]:
    """Return the variables of this shell that are settings, or that config.yaml names."""
    from app.config.loading import set_in_environment, variables_named
    from app.settings import variable

    return {*(variable(field) for field in set_in_environment() - {"home"}), *variables_named()}


def _variables_of(file: Path) -> set[str]:
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return {line.partition("=")[0].strip() for line in lines if "=" in line}


def _config() -> Path | None:
    """Return the file that PRISM_CONFIG or --config names; None leaves it to the home folder."""
    from app.config.loading import VARIABLE, config_path

    return config_path() if os.environ.get(VARIABLE) else None


def _refuse_another_server(systemd: Manager, settings: Settings) -> None:
    """Raise Conflict if a server runs here that is not the service."""
    record = local_server.running(settings.run_folder)
    if record and _record(systemd, settings.run_folder) is None:
        raise Conflict(
            f"PRISM runs already at {record.url} (pid {record.pid}), but not as this service.",
            hint="Run `prism stop --keep-models`, then this command again: the service takes over its models.",
        )


def _write(unit: Path, text: str) -> bool:
    """Write the unit, which has no secret in it; returns whether that changed it. Raises Conflict for a foreign one."""
    from app.core.atomic_file import write_atomic

    if unit.exists():
        _refuse_foreign(unit)
        if unit.read_text() == text:
            return False
    write_atomic(unit, text.encode())
    unit.chmod(0o644)
    return True


def _refuse_foreign(unit: Path) -> None:
    if not unit.read_text(errors="replace").startswith(WRITTEN):
        raise Conflict(f"{unit} was not written by PRISM.", hint="Move it away, or manage it by systemctl.")


def _start(here: Session, systemd: Manager, settings: Settings) -> local_server.ServerRecord:
    """Start the service and wait until it answers. Raises StartFailed if it ends, or does not answer in time."""
    systemd.stop()
    local_server.check_port(settings.host, settings.port, here.output.say)
    systemd.start()
    try:
        return _wait(systemd, settings.run_folder)
    except StartFailed:
        systemd.stop()
        raise


def _wait(systemd: Manager, run_folder: Path) -> local_server.ServerRecord:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        record = _record(systemd, run_folder)
        if record and local_server.answers(record.url):
            return record
        if systemd.properties("SubState")["SubState"] in ("failed", "auto-restart", "dead"):
            raise StartFailed("The service ended before it answered.", hint=f"See why: `{systemd.journal}`.")
        time.sleep(0.1)
    raise StartFailed(f"The service does not answer after {START_SECONDS} s.", hint=f"See `{systemd.journal}`.")


def _record(systemd: Manager, run_folder: Path) -> local_server.ServerRecord | None:
    """Return the record of the server that the service runs; None while it accepts no requests."""
    record = local_server.running(run_folder)
    return record if record and str(record.pid) == systemd.properties("MainPID")["MainPID"] else None
