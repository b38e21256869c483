"""The `prism` command: a server on this machine, and the models of any PRISM server.

`run`, `stop` and `status` handle the server's process, `doctor` checks this machine, `lint` and `format` run ruff and
black. Every other command talks to the server through the SDK.

Standard output carries data (with --json, one JSON document), standard error carries messages. Exit codes:

    0    done
    1    an error
    2    wrong usage
    3    not found: no such model; for `status`, no server runs
    4    unhealthy: a model that should be live is not
    5    not allowed: the API key is missing or wrong
    130  interrupted

The client is configured by PRISM_URL and PRISM_API_KEY, or --url and --api-key-file. A key is never an argument,
because every user of the machine can see arguments. NO_COLOR turns colour off.
"""

from __future__ import annotations

from typing import Annotated

import typer

from prism.cli import bench, develop, doctor, keys, models, predict, push, server, share, storage

EPILOG = """
\b
Exit codes: 0 success, 1 error, 2 wrong usage, 3 not found (status: no server),
4 unhealthy, 5 not allowed, 130 interrupted.

\b
PRISM_URL is the server (default: the one on this machine), PRISM_API_KEY the key.
Every command takes --json. NO_COLOR turns colour off.

\b
To start: prism run, then prism push model.joblib
"""

app = typer.Typer(
    name="prism",
    help="Serve model files as safe, fast APIs on your own machine.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("prism-serve"))
        except PackageNotFoundError:
            typer.echo("a checkout, not installed")
        raise typer.Exit


@app.callback()
def prism(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve model files as safe, fast APIs on your own machine."""


app.command()(server.run)
app.command()(server.stop)
app.command()(server.status)
app.command()(push.push)
app.add_typer(models.app, name="models")
app.command()(predict.predict)
app.add_typer(share.app, name="share")
app.add_typer(keys.app, name="keys")
app.add_typer(storage.app, name="storage")
app.command()(bench.bench)
app.command("open")(server.open_dashboard)
app.command()(doctor.doctor)
app.command()(develop.lint)
app.command("format")(develop.format_code)


def main() -> None:
    app()
