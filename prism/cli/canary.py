"""`prism canary start`, `status`, `promote`, `rollback`, `pause`, `resume`: a new version that takes over step by step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import BadInput
from prism.cli.canary_view import describe, event_line, summary
from prism.cli.help import Group, examples
from prism.cli.output import Output, printable, table
from prism.cli.session import ERROR, Json, KeyFile, Session, Url, session

if TYPE_CHECKING:
    from prism.canaries import Canary

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Show it as it goes, until it is promoted, rolled back or has failed.")
]

app = typer.Typer(
    cls=Group,
    help="Give a new version a share of the requests, and judge it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    epilog=examples(
        "prism canary start fraud --candidate 2.0.0 --percent 5",
        "prism canary start fraud --candidate 2.0.0 --steps 5,25,50,100 --bake 30 --follow",
        "prism canary start fraud --candidate 2.0.0 --percent 1 --threshold 0.005",
    )
)
def start(
    name: Name,
    candidate: Annotated[str, typer.Option(metavar="VERSION", help="The version that may take over.")],
    percent: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Its share of the requests at first; default: 5.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="5,25,50,100",
            help="Rising shares that it goes through by itself; default: it keeps the first until it is promoted.",
        ),
    ] = None,
    bake: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long each step lasts at least; default: 30.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Share of bad answers, 0 to 1, above which it is rolled back; default: 0.02."
        ),
    ] = None,
    allow_signature_change: Annotated[
        bool, typer.Option("--allow-signature-change", help="Begin although callers of the live version would break.")
    ] = False,
    follow: Follow = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Give a version a share of a model's requests; it is rolled back by itself if its answers are bad."""
    with session(as_json, url, key_file) as here:
        canary = here.client.create_canary(
            name,
            candidate,
            percent,
            threshold,
            steps=_shares(steps),
            bake_seconds=bake,
            allow_signature_change=allow_signature_change or None,
        )
        show(here, canary, follow)


@app.command(
    epilog=examples("prism canary status", "prism canary status fraud", "prism canary status fraud --follow --json")
)
def status(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A model's name; default: all canaries.")] = None,
    follow: Follow = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Show a model's canary: split, evidence and what is missing; without a name, list the canaries of all models.

    With --follow and --json, each event is one line of JSON, and the last line is the canary.
    """
    with session(as_json, url, key_file) as here:
        if name is None:
            if follow:
                raise BadInput("--follow needs the name of a model.", hint="prism canary status NAME --follow")
            _list(here)
        else:
            show(here, here.client.canary(name), follow)


@app.command(epilog=examples("prism canary promote fraud"))
def promote(name: Name, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Give the new version all requests; the one before stays warm, so that `prism canary rollback` goes back at once."""
    with session(as_json, url, key_file) as here:
        show(here, here.client.promote_canary(name))


@app.command(epilog=examples("prism canary rollback fraud"))
def rollback(name: Name, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Give the version before all requests again, at once, and stop the new one."""
    with session(as_json, url, key_file) as here:
        show(here, here.client.rollback_canary(name))


@app.command(epilog=examples("prism canary pause fraud"))
def pause(name: Name, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Keep a canary at its step; it is still judged, and rolled back if it must be."""
    with session(as_json, url, key_file) as here:
        show(here, here.client.pause_canary(name))


@app.command(epilog=examples("prism canary resume fraud"))
def resume(name: Name, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Let a paused canary go on."""
    with session(as_json, url, key_file) as here:
        show(here, here.client.resume_canary(name))


def show(here: Session, canary: Canary, follow: bool = False) -> None:
    """Print a canary; with `follow`, as it goes. Ends with exit code 1 if one that is followed does not make it."""
    if follow:
        _follow(here.output, canary)
    if not (follow and here.output.as_json):
        here.output.data(canary.rollout.document, describe(canary.rollout))
    if canary.state in ("running", "holding", "paused"):
        here.output.next_step(f"prism canary promote {canary.name}", f"prism canary rollback {canary.name}")
    elif canary.state == "promoted":
        here.output.next_step(f"prism canary rollback {canary.name}   goes back at once")
    if follow and canary.state in ("rolled_back", "failed"):
        raise typer.Exit(ERROR)


def _follow(output: Output, canary: Canary) -> None:
    if output.is_terminal:
        return _draw(canary)
    for events in canary.follow():
        for event in events:
            if output.as_json:
                typer.echo(json.dumps(event.document, ensure_ascii=False))
            else:
                output.say(event_line(event))
    if output.as_json:
        typer.echo(json.dumps(canary.rollout.document, ensure_ascii=False))


def _draw(canary: Canary) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    last = ""
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        for events in canary.follow():
            for event in events:
                last = event_line(event)
                live.console.print(Text(last, style="dim"))
            live.update(Text(describe(canary.rollout)), refresh=True)


def _list(here: Session) -> None:
    canaries = [each for each in here.client.rollouts() if each.kind == "canary"]
    heads = ("NAME", "STATE", "CANDIDATE", "SHARE", "STABLE", "BEGUN", "WHY")
    rows = [
        (
            each.name,
            each.state,
            each.candidate.version,
            f"{each.percentage:g} %",
            each.stable.version,
            each.created_at[:19],
            summary(each),
        )
        for each in canaries
    ]
    listing = table(heads, rows) if rows else "No canaries yet."
    here.output.data({"deployments": [each.document for each in canaries]}, listing)
    names = [printable(each.name) for each in canaries if not each.is_over]
    here.output.next_step(
        f"prism canary status {names[0]} --follow" if names else "prism canary start NAME --candidate VERSION"
    )


def _shares(given: str | None) -> list[float] | None:
    """Return the steps. Raises BadInput for what is no list of numbers."""
    if given is None:
        return None
    try:
        return [float(share) for share in given.replace("%", "").split(",")]
    except ValueError as error:
        raise BadInput(
            f"--steps {given!r} is not a list of shares in percent.", hint="For example: --steps 5,25,50,100."
        ) from error
