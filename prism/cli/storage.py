"""`prism storage ls` and `prune`: the images of models, and those that nothing needs."""

from __future__ import annotations

import sys
from typing import Any

import typer

from app.errors import BadInput
from prism.cli.help import Group, examples
from prism.cli.output import printable, size, table
from prism.cli.session import Json, KeyFile, NoInput, Session, Url, Yes, session

app = typer.Typer(
    cls=Group,
    help="Show the disk space that the models' images take, and free what nothing needs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("ls", epilog=examples("prism storage ls"))
def list_storage(as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """List the images by model, and what nothing needs."""
    with session(as_json, url, key_file) as here:
        stored = here.client.storage()
        here.output.data(stored, described(stored))
        for name in stored["unavailable"]:
            here.output.error(
                {"detail": f"{name.capitalize()} does not answer.", "hint": "`prism doctor` looks at it."}
            )
        if stored["leftovers"]:
            here.output.next_step("prism storage prune   remove what nothing needs")


@app.command(epilog=examples("prism storage prune", "prism storage prune --yes"))
def prune(
    yes: Yes = False, no_input: NoInput = False, as_json: Json = False, url: Url = None, key_file: KeyFile = None
) -> None:
    """Remove the images that nothing needs, after a list of them."""
    with session(as_json, url, key_file) as here:
        leftovers = here.client.storage()["leftovers"]
        if leftovers and not yes and not _confirmed(here, leftovers, no_input):
            raise typer.Exit(1)
        pruned: dict[str, Any] = here.client.prune_storage() if leftovers else {"removed": [], "size_bytes": 0}
        text = f"Removed {len(pruned['removed'])} of {len(leftovers)} images, {size(pruned['size_bytes'])}."
        here.output.data(pruned, text if leftovers else "Nothing is left over.")


def described(stored: dict[str, Any]) -> str:
    rows = [(entry["ref"], size(entry["size_bytes"]), ", ".join(entry["images"])) for entry in stored["models"]]
    blocks = [table(("MODEL", "SIZE", "IMAGES"), rows) if rows else "No model has an image."]
    if stored["environments"]:
        blocks.append(f"Environments below them: {stored['environments']}, {size(stored['environments_bytes'])}")
    if stored["leftovers"]:
        blocks.append(leftovers_table(stored["leftovers"]))
    return "\n\n".join(blocks)


def leftovers_table(leftovers: list[dict[str, Any]]) -> str:
    rows = [(printable(each["name"]), size(each["size_bytes"]), each["reason"]) for each in leftovers]
    return table(("LEFT OVER", "SIZE", "BECAUSE"), rows)


def _confirmed(here: Session, leftovers: list[dict[str, Any]], no_input: bool) -> bool:
    if no_input or here.output.as_json or not sys.stdin.isatty():
        names = ", ".join(each["name"] for each in leftovers)
        raise BadInput(f"Removing {names} cannot be undone.", hint="Add --yes to remove without confirmation.")
    here.output.say(leftovers_table(leftovers))
    return typer.confirm("Remove these images?", err=True)
