"""`prism keys ls`, `create`, `revoke`: the API keys of a server."""

from __future__ import annotations

from typing import Annotated

import typer

from prism import requests
from prism.cli.help import Group, examples
from prism.cli.output import printable, table
from prism.cli.session import Json, KeyFile, Url, session

app = typer.Typer(cls=Group, help="List, create and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls", epilog=examples("prism keys ls"))
def list_keys(as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """List the keys that were made; those of the server's settings are not among them."""
    with session(as_json, url, key_file) as here:
        keys = here.client.keys.list()
        rows = [(key.id, key.name, key.hint, key.created_at) for key in keys]
        listing = table(("ID", "NAME", "ENDS IN", "CREATED"), rows) if rows else "No keys yet."
        here.output.data({"keys": [key.document for key in keys]}, listing)
        here.output.next_step(f"prism keys revoke {keys[0].id}" if keys else "prism keys create NAME")


@app.command(epilog=examples("prism keys create phone-app"))
def create(
    name: Annotated[str, typer.Argument(help="Who will use the key.")],
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Make a key, and print it: this once, for it is kept nowhere."""
    with session(as_json, url, key_file) as here:
        key = here.client.keys.create(name)
        here.output.data(key.document, printable(key.key or ""))
        here.output.say(f"It is shown only once. Send it as `X-API-Key: …`. Its id is {printable(key.id)}.")
        here.output.next_step(f"prism keys revoke {printable(key.id)}")


@app.command(epilog=examples("prism keys revoke 3f2a9c"))
def revoke(
    id: Annotated[str, typer.Argument(help="The id shown by `prism keys ls`.")],
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Revoke a key: its next request is refused."""
    with session(as_json, url, key_file) as here:
        revocation = here.client.send(requests.revoke_key(id))
        here.output.data(revocation.document, f"Revoked {printable(revocation.revoked)}.")
        if not revocation.saved:
            here.output.say(printable(revocation.hint))
