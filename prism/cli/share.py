"""`prism share start`, `status`, `stop`: the public link to shared models."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import BadInput
from prism.cli.help import Group, examples
from prism.cli.output import printable, table
from prism.cli.push import LONGEST_SAMPLE
from prism.cli.session import UNHEALTHY, USAGE, Json, KeyFile, Session, Url, session

if TYPE_CHECKING:
    from prism.responses import Share, SharedModel

app = typer.Typer(
    cls=Group, help="Share models through a link that works from anywhere.", no_args_is_help=True, rich_markup_mode=None
)

Refs = Annotated[
    list[str] | None, typer.Argument(metavar="[REF]…", help="Names, name@version or model_ids.", show_default=False)
]


@app.command(epilog=examples("prism share start iris --create-key", "prism share start iris --open"))
def start(
    refs: Refs = None,
    create_key: Annotated[
        bool, typer.Option("--create-key", help="Create an API key for the link and print it once.")
    ] = False,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Consent that anyone with the link can predict without a key.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Share live models by a link; without REF, the only one. Waits until the link stands."""
    with session(as_json, url, key_file) as here:
        if create_key and open_to_all:
            here.output.error(BadInput("Give --create-key or --open, not both.").problem())
            raise typer.Exit(USAGE)
        here.output.say("Opening the link …")
        shared = here.client.share(*(refs or []), create_key=create_key, open_to_all=open_to_all)
        here.output.data(shared.document, _started(here, shared))
        _warn(here, shared)
        here.output.next_step("prism share status", "prism share stop")


@app.command(epilog=examples("prism share status"))
def status(as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Show what is shared and where. Exit code 4: the link failed, or is being opened again."""
    with session(as_json, url, key_file) as here:
        shared = here.client.share_status()
        here.output.data(shared.document, describe(shared))
        _warn(here, shared)
        if shared.error:
            here.output.error(shared.error)
        if shared.state in ("failed", "reconnecting"):
            raise typer.Exit(UNHEALTHY)
        if shared.state == "off":
            here.output.next_step("prism share start")


@app.command(epilog=examples("prism share stop", "prism share stop iris"))
def stop(refs: Refs = None, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Withdraw these models, or all; the link closes with the last."""
    with session(as_json, url, key_file) as here:
        shared = here.client.stop_share() if not refs else [here.client.stop_share(ref) for ref in refs][-1]
        here.output.data(shared.document, describe(shared))


def describe(shared: Share) -> str:
    if shared.state == "off":
        return "Nothing is shared."
    kind = printable(shared.kind)
    head = f"{shared.url} ({kind})" if shared.state == "on" else f"The link ({kind}) is {printable(shared.state)}."
    rows = [(model.name, model.public_url or "-") for model in shared.models]
    listing = [table(("MODEL", "PREDICT"), rows)] if rows else []
    keyed = ["Anyone with the link can use it." if shared.open else "It needs an API key."] if rows else []
    return "\n\n".join([head, *listing, *keyed])


def _started(here: Session, shared: Share) -> str:
    key = f"Key, shown only once: {shared.key.key}" if shared.key else ""
    lines = [curl(here, model, shared) for model in shared.models]
    return "\n\n".join(part for part in (describe(shared), key, *lines) if part)


def curl(here: Session, shared_model: SharedModel, shared: Share) -> str:
    """Return a command line that calls the model from anywhere, ready to copy; "" if no sample is known or it is too
    long.
    """
    model = here.client.models.get(shared_model.name)
    sample = json.dumps(model.sample, ensure_ascii=False)
    if not shared_model.public_url or model.sample is None or len(sample) > LONGEST_SAMPLE:
        return ""
    key = '"X-API-Key: $PRISM_API_KEY"'
    if shared.key:
        key = shlex.quote(f"X-API-Key: {shared.key.key}")
    words = f"curl -s {shlex.quote(shared_model.public_url)} -H 'Content-Type: application/json'"
    return f"{words}{'' if shared.open else f' -H {key}'} -d {shlex.quote(sample)}"


def _warn(here: Session, shared: Share) -> None:
    if shared.warning:
        here.output.say(printable(f"Note: {shared.warning}"))
