"""`prism run`, `stop`, `status` and `open`: the server on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.errors import NotFound
from prism.cli import local_server
from prism.cli.output import Output, duration, printable, size, table
from prism.cli.session import NOT_FOUND, UNHEALTHY, Config, Json, KeyFile, NoInput, Session, Url, session
from prism.errors import APIError, ConnectionFailed
from prism.responses import Health


def run(
    port: Annotated[
        int | None, typer.Argument(min=0, max=65535, help="Port for this run; default: as the settings say, or 8000.")
    ] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when the server's code changes.")] = False,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on in this run; default: as the settings say, or 127.0.0.1.")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Run in this terminal and log here.")] = False,
    target: Annotated[str | None, typer.Option(help="Where models run: auto, docker or process.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Start the server in the background, and wait until it answers.

    `prism config set port 9000` makes a choice last.
    """
    with session(as_json, config=config) as here:
        chosen = {"port": port, "host": host, "target": target, "reload": reload or None}
        settings = local_server.settings(**chosen)
        _say_what_means_nothing(here.output)
        if record := local_server.running(settings.run_folder):
            changes = local_server.changes(record, settings, **chosen)
            _say_already_running(here.output, record, settings.run_folder, changes, _run_command(chosen, config))
            return
        local_server.check_port(settings.host, settings.port, here.output.say)
        if foreground:
            os.chdir(local_server.code_folder())
            command = local_server.command()
            os.execve(command[0], command, local_server.environment(settings))
        here.output.say("Starting PRISM …")
        record = local_server.start(settings)
        here.output.data(_record_document(record, settings.run_folder), f"PRISM runs at {record.url}")
        here.output.next_step(
            "prism push model.joblib   serve a model file",
            "prism status              show what runs",
            "prism stop                stop the server and its models",
        )


def stop(
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Leave the models running.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Stop the server of this machine, and its models with it."""
    with session(as_json, config=config) as here:
        run_folder = local_server.run_folder()
        record = local_server.running(run_folder)
        if record is None:
            here.output.data({"stopped": False}, "PRISM is not running.")
            here.output.next_step("prism run")
            return
        here.output.say(f"Stopping PRISM (pid {record.pid}) …")
        local_server.stop(record, run_folder, keep_models=keep_models)
        kept = " Its models keep running; `prism run` adopts them again." if keep_models else ""
        here.output.data({"stopped": True, "pid": record.pid, "models_kept": keep_models}, f"PRISM is stopped.{kept}")


def status(as_json: Json = False, url: Url = None, key_file: KeyFile = None, config: Config = None) -> None:
    """Show the server and its models.

    Exit code 3: no server; 4: a model that was live, and should be, is not, or the engine is gone.
    """
    with session(as_json, url, key_file, config) as here:
        record = None
        if local_server.is_installed() and not (url or os.environ.get("PRISM_URL")):
            record = local_server.running(local_server.run_folder())
        try:
            health = here.client.health()
        except ConnectionFailed as error:
            _say_no_answer(here.output, record, error)
            raise typer.Exit(UNHEALTHY if record else NOT_FOUND) from error
        _say_status(here, record, health)


def open_dashboard(as_json: Json = False, url: Url = None, key_file: KeyFile = None, no_input: NoInput = False) -> None:
    """Open the dashboard in the browser, and print its address."""
    with session(as_json, url, key_file) as here:
        here.client.health()
        address = here.client.base_url + "/"
        here.output.data({"url": address}, address)
        if not (as_json or no_input) and _has_browser():
            import webbrowser

            webbrowser.open(address)


def _say_already_running(
    output: Output, record: local_server.ServerRecord, run_folder: Path, changes: list[local_server.Change], run: str
) -> None:
    document = _record_document(record, run_folder, already_running=True, changes=changes)
    output.data(document, f"PRISM is already running at {record.url} (pid {record.pid}).")
    say_changes(output, changes, run)
    output.next_step("prism status")


def say_changes(output: Output, changes: list[local_server.Change], run: str = "prism run") -> None:
    """Say what a start would change of the server that runs, and how to make it happen."""
    if not changes:
        return
    rows = [(one.setting, one.old or "unset", one.new or "unset", one.source) for one in changes]
    output.say("Started again, it would have other settings:\n" + table(("SETTING", "NOW", "THEN", "FROM"), rows))
    output.next_step(local_server.restart_command(changes, run))


def _run_command(chosen: Mapping[str, object], config: Path | None) -> str:
    """Return the command that was given, as far as it chooses settings."""
    options = {"--host": chosen["host"], "--target": chosen["target"], "--config": config}
    words = [str(chosen["port"])] if chosen["port"] is not None else []
    words += [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return shlex.join(["prism", "run", *words, *(["--reload"] if chosen["reload"] else [])])


def _say_what_means_nothing(output: Output) -> None:
    from app.config.loading import warnings

    for warning in warnings():
        output.say(f"Warning: {warning}")


def _record_document(
    record: local_server.ServerRecord,
    run_folder: Path,
    already_running: bool = False,
    changes: Sequence[local_server.Change] = (),
) -> dict[str, Any]:
    log = str(local_server.log_path(run_folder))
    changed = [change._asdict() for change in changes]
    return {"url": record.url, "pid": record.pid, "already_running": already_running, "changes": changed, "log": log}


def _say_no_answer(output: Output, record: local_server.ServerRecord | None, error: ConnectionFailed) -> None:
    if record is None:
        output.data({"server": None, "models": []}, "No PRISM server is running.")
        output.error({**error.problem(), "hint": error.hint})
        return
    problem = NotFound(
        f"The server runs (pid {record.pid}) but does not answer at {record.url}.",
        hint=f"See {local_server.log_path(local_server.run_folder())}, or `prism stop` and `prism run`.",
    )
    output.data({"server": {"url": record.url, "pid": record.pid, "status": "silent"}, "models": []}, problem.detail)
    output.error(problem.problem())


def _say_status(here: Session, record: local_server.ServerRecord | None, health: Health) -> None:
    server: dict[str, Any] = {"url": here.client.base_url, "status": health.status, "version": health.version}
    text = f"PRISM {printable(health.version)} at {here.client.base_url}: {printable(health.status)}"
    if grpc_port := health.document.get("grpc_port"):
        server["grpc_port"] = grpc_port
        text += f", gRPC on port {grpc_port}"
    process = local_server.process_of(record) if record else None
    if record and process:
        server |= {"pid": record.pid, "uptime_seconds": process.uptime_seconds, "memory_bytes": process.memory_bytes}
        text += f", pid {record.pid}, up {duration(process.uptime_seconds)}, {size(process.memory_bytes)}"
    try:
        models = here.client.models.list()
    except APIError:
        here.output.data({"server": server, "models": None}, text)
        raise
    present = [model for model in models if not (model.superseded and model.status == "failed")]
    rows = [(model.name, model.version, model.status, model.target or "-", model.endpoint or "-") for model in present]
    listing = "\n\n" + table(("MODEL", "VERSION", "STATUS", "TARGET", "ENDPOINT"), rows) if rows else "\nNo models yet."
    if history := len(models) - len(present):
        listing += f"\n\nFailed versions that newer ones have replaced: {history} (`prism models rm --failed`)"
    here.output.data({"server": server, "models": [model.document for model in models]}, text + listing)
    for name in health.unavailable:
        here.output.error({"detail": f"{name.capitalize()} does not answer.", "hint": "`prism doctor` looks at it."})
    for model_id in (*health.down, *(model["model_id"] for model in health.failed)):
        here.output.next_step(f"prism models show {model_id}")
    if health.failed:
        here.output.next_step(f"prism models dismiss {health.failed[0]['model_id']}   no longer report that it failed")
    if health.down or health.unavailable:
        raise typer.Exit(UNHEALTHY)
    if not models:
        here.output.next_step("prism push model.joblib")


def _has_browser() -> bool:
    """Return whether a graphical browser can be opened.

    Without a display, a text browser would take over the terminal.
    """
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
