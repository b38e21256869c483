"""`prism shadow start`, `show`, `stop`: a version that gets copies of the requests, and answers nobody."""

from __future__ import annotations

from typing import Annotated

import typer

from prism.cli.help import Group, examples
from prism.cli.session import Json, KeyFile, Url, session
from prism.cli.shadow_view import describe

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]

app = typer.Typer(
    cls=Group,
    help="Send a version copies of the requests, and compare its answers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    epilog=examples(
        "prism shadow start fraud --shadow 2.0.0", "prism shadow start fraud --production 1.4.0 --shadow 2.0.0"
    )
)
def start(
    name: Name,
    shadow: Annotated[str, typer.Option(metavar="VERSION", help="The version that gets copies of the requests.")],
    production: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="The version that answers the requests; default: the one that does."),
    ] = None,
    allow_signature_change: Annotated[
        bool,
        typer.Option("--allow-signature-change", help="Begin although it does not take all that production does."),
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Send a version copies of a model's requests. Callers get production's answers alone."""
    with session(as_json, url, key_file) as here:
        begun = here.client.create_shadow(
            name,
            shadow_version=shadow,
            production_version=production,
            allow_signature_change=allow_signature_change,
        )
        report = begun.report()
        here.output.data(begun.rollout.document, describe(report))
        here.output.next_step(f"prism shadow show {name}", f"prism shadow stop {name}")


@app.command(epilog=examples("prism shadow show fraud", "prism shadow show fraud --json"))
def show(name: Name, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Show how far a shadow agrees with production, both latencies, and the last answers that differ."""
    with session(as_json, url, key_file) as here:
        report = here.client.shadow_report(name)
        here.output.data(report.document, describe(report))
        if report.state == "running":
            here.output.next_step(f"prism shadow stop {name}")


@app.command(epilog=examples("prism shadow stop fraud"))
def stop(name: Name, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Send no more copies. The version keeps running, without requests."""
    with session(as_json, url, key_file) as here:
        shadow = here.client.shadow(name).stop()
        here.output.data(shadow.rollout.document, describe(shadow.report()))
        ref = f"{name}@{shadow.rollout.candidate.version}"
        here.output.next_step(
            f"prism canary start {name} --candidate {shadow.rollout.candidate.version}", f"prism models stop {ref}"
        )
