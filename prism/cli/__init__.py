"""The `prism` command: a server on this machine, and the models of any PRISM server.

`run`, `stop` and `status` handle the server's process, `service` keeps it running by systemd, `config` holds its settings,
`doctor` checks this machine, `lint` and `format` run ruff and black. Every other command talks to the server through the
SDK.

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

from prism.cli import (
    ab,
    bench,
    canary,
    chaos,
    config,
    develop,
    doctor,
    keys,
    models,
    predict,
    push,
    server,
    service,
    shadow,
    share,
    storage,
    versions,
)
from prism.cli.help import Group, examples

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
    cls=Group,
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


app.command(epilog=examples("prism run", "prism run 8080", "prism run --target process --foreground"))(server.run)
app.command(epilog=examples("prism stop", "prism stop --keep-models"))(server.stop)
app.command(epilog=examples("prism status", "prism status --json"))(server.status)
app.command(
    epilog=examples(
        "prism push model.joblib",
        "prism push model.joblib --name fraud-detector --expected-input @sample.json",
        "prism push model.pkl --code train.py --code src",
        "prism push folder --allow-package acme-models --no-run",
        "prism push model.joblib --name iris --strategy none --bump major",
        "prism push model.joblib --name iris --strategy canary --percent 5 --follow",
    )
)(push.push)
app.command(
    epilog=examples(
        'prism predict iris \'{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}\'',
        "prism predict iris --file rows.json --probabilities",
        "prism predict digits seven.png",
        "prism predict words clip.wav",
        "prism predict iris -f data.csv -o out.csv",
        "cat rows.json | prism predict iris@1.0.0 - --json",
    )
)(predict.predict)
app.command("ls", epilog=examples("prism ls", "prism ls --json"))(models.list_models)
app.command(epilog=examples("prism logs iris --follow", "prism logs iris --build"))(models.logs)
app.command(epilog=examples("prism rollback iris", "prism rollback iris@1.0.0"))(models.rollback)
app.command(epilog=examples("prism versions iris", "prism versions iris --json"))(versions.versions)
app.command(epilog=examples("prism diff iris", "prism diff iris 1.0.0 2.0.0"))(versions.diff)
app.command("rm", epilog=examples("prism rm iris@1.0.0", "prism rm iris --yes"))(models.remove)
app.add_typer(models.app, name="models")
app.add_typer(canary.app, name="canary")
app.add_typer(shadow.app, name="shadow")
app.add_typer(ab.app, name="ab")
app.add_typer(share.app, name="share")
app.add_typer(keys.app, name="keys")
app.add_typer(config.app, name="config")
app.add_typer(service.app, name="service")
app.add_typer(storage.app, name="storage")
app.command(epilog=examples("prism bench iris", "prism bench iris -c 16 -d 30 --rate 500"))(bench.bench)
app.command(epilog=examples("prism chaos iris --errors 0.2", "prism chaos iris@2.0.0 --hang --for 10"))(chaos.chaos)
app.command("open", epilog=examples("prism open"))(server.open_dashboard)
app.command(epilog=examples("prism doctor"))(doctor.doctor)
app.command(epilog=examples("prism lint", "prism lint src"))(develop.lint)
app.command("format", epilog=examples("prism format", "prism format src"))(develop.format_code)


def main() -> None:
    app()
