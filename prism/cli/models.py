"""`prism models ls`, `show`, `dismiss`, `rm`, `logs`, `start`, `stop`, `restart`, `rollback`, `scale`: a server's models.

`versions.py` adds `versions` and `diff`.
`ls`, `logs`, `rm`, `rollback`, `versions` and `diff` are short forms, too: `prism ls`.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Annotated

import typer

from app.errors import BadInput
from prism.cli.help import Group, examples
from prism.cli.output import duration, printable, size, table
from prism.cli.session import UNHEALTHY, Json, KeyFile, NoInput, Ref, Session, Url, Yes, session
from prism.errors import InvalidRequest, NotFoundError
from prism.requests import LogKind
from prism.responses import Model, Replacement

app = typer.Typer(cls=Group, help="List, show, change and remove models.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls", epilog=examples("prism models ls", "prism models ls --json"))
def list_models(as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """List the models."""
    with session(as_json, url, key_file) as here:
        models = here.client.models.list()
        rows = [
            (model.name, model.version, model.status, model.target or "-", running(model), _size(model), model.model_id)
            for model in models
        ]
        heads = ("NAME", "VERSION", "STATUS", "TARGET", "REPLICAS", "SIZE", "MODEL ID")
        listing = table(heads, rows) if rows else "No models yet."
        here.output.data({"models": [model.document for model in models]}, listing)
        here.output.next_step(f"prism models show {models[0].name}" if models else "prism push model.joblib")


@app.command(epilog=examples("prism models show iris", "prism models show iris@1.0.0 --json"))
def show(ref: Ref, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Show one model: where it stands, its inputs, its environment and why."""
    with session(as_json, url, key_file) as here:
        model = here.client.models.get(ref)
        here.output.data(model.document, describe(model))
        if model.error:
            here.output.error(model.error)
            here.output.next_step(f"prism logs {model.ref or model.model_id} --build")


@app.command(epilog=examples("prism models dismiss iris@1.2.0"))
def dismiss(ref: Ref, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Stop reporting a failed version, or the error of a live one, as something that needs attention."""
    with session(as_json, url, key_file) as here:
        model = here.client.models.dismiss(ref)
        name = printable(model.ref or model.model_id)
        here.output.data(model.document, f"{name} is {printable(model.status)}, and no longer needs attention.")


@app.command("rm", epilog=examples("prism models rm iris@1.0.0", "prism models rm --failed --yes"))
def remove(
    refs: Annotated[
        list[str] | None, typer.Argument(metavar="REF...", help="Names, name@version or model_ids.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Remove every version that failed.")] = False,
    yes: Yes = False,
    no_input: NoInput = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Stop models and remove their containers, images, files and records."""
    with session(as_json, url, key_file) as here:
        models = _chosen(here, refs or [], failed)
        if models and not yes and not _confirmed(here, models, no_input):
            raise typer.Exit(1)
        removed, blocks = [], []
        for model in models:
            items = here.client.models.delete(model.model_id)
            listing = "\n".join(f"  {printable(item)}" for item in items)
            removed += items
            blocks.append(f"Removed {printable(model.ref or model.model_id)}:\n{listing}".rstrip(":\n"))
        here.output.data({"removed": removed}, "\n".join(blocks) or "No version has failed.")


@app.command(
    epilog=examples(
        "prism models logs iris --follow",
        "prism models logs iris --timestamps",
        "prism models logs iris --build",
        "prism models logs iris --replica 2 --tail 50",
    )
)
def logs(
    ref: Ref,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow: print new lines as they appear.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Number of lines to start with.")] = 200,
    build: Annotated[bool, typer.Option("--build", help="Show the build log.")] = False,
    replica: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show only the log of the replica with this number.")
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", "-t", help="Print the time, in UTC, before each line of a replica.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Print a model's log: what it wrote while it loaded and answered; with --json, each line is a JSON string."""
    with session(as_json, url, key_file) as here:
        take = here.client.models.follow_logs if follow else here.client.models.logs
        kind: LogKind = "build" if build else "runtime"
        for line in take(ref, tail=tail, kind=kind, replica=replica, timestamps=timestamps):
            here.output.line(line)


@app.command(epilog=examples("prism models start iris", "prism models start iris@1.0.0 --keep"))
def start(
    ref: Ref,
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--no-keep", help="Keep other models running beside this one; default: as it was deployed."
        ),
    ] = None,
    yes: Yes = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never prompt.")] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Start a stopped or built model; on a terminal it asks before this stops models of other names."""
    with session(as_json, url, key_file) as here:
        stops = _say_what_it_stops(here, ref, keep)
        asks = stops and not (yes or no_input or as_json) and sys.stdin.isatty()
        if asks and not typer.confirm(f"Start {printable(ref)}?", err=True):
            raise typer.Exit(1)
        model = here.client.models.start(ref, keep=keep)
        _say_outcome(here, model, wanted="live")


@app.command(epilog=examples("prism models stop iris"))
def stop(ref: Ref, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Stop a model; it keeps its files and can be started again."""
    with session(as_json, url, key_file) as here:
        _say_outcome(here, here.client.models.stop(ref), wanted="stopped")


@app.command(epilog=examples("prism models restart iris"))
def restart(ref: Ref, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Replace a model's replicas by new ones, one after another."""
    with session(as_json, url, key_file) as here:
        _say_outcome(here, here.client.models.restart(ref), wanted="live")


@app.command(epilog=examples("prism models rollback iris", "prism models rollback iris@1.0.0"))
def rollback(ref: Ref, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Make the version before the current one live again, or the one that is named; no request fails meanwhile."""
    with session(as_json, url, key_file) as here:
        _say_outcome(here, here.client.models.rollback(ref), wanted="live")


@app.command(epilog=examples("prism models scale iris 3"))
def scale(
    ref: Ref,
    replicas: Annotated[int, typer.Argument(help="Number of copies of the model that serve, 1 to 64.")],
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Change how many replicas of a model serve; no request fails meanwhile."""
    with session(as_json, url, key_file) as here:
        model = here.client.models.scale(ref, replicas)
        name = printable(model.ref or model.model_id)
        count = f"replicas: {running(model)}" if model.replicas else f"replicas: {replicas} once it is started"
        here.output.data(model.document, f"{name} is {printable(model.status)}, {count}.")
        if model.replicas and len(model.replicas) != replicas:
            if model.error:
                here.output.error(model.error)
            raise typer.Exit(UNHEALTHY)


def running(model: Model) -> str:
    """Return how many replicas run, and how many should run if the numbers differ."""
    if model.replicas_wanted is None:
        return "-"
    number, is_meant = len(model.replicas), model.status in ("live", "unhealthy")
    return f"{number} of {model.replicas_wanted}" if is_meant and number != model.replicas_wanted else f"{number}"


def replicas_table(model: Model) -> str:
    """Return a table with one line per replica; "" for fewer than two replicas."""
    if len(model.replicas) < 2:
        return ""
    rows = [
        (
            str(replica.number),
            replica.id[:12] if replica.image else f"process {replica.pid}",
            replica.circuit or "-",
            size(replica.memory_bytes) if replica.memory_bytes else "-",
            f"{replica.cores:.2f}" if replica.cores is not None else "-",
        )
        for replica in model.replicas
    ]
    return table(("REPLICA", "RUNS AS", "CIRCUIT", "MEMORY", "CORES"), rows)


def describe(model: Model) -> str:
    """Describe a model in a few lines and some tables."""
    facts = [
        ("status", model.status),
        ("model id", model.model_id),
        ("endpoint", model.endpoint),
        ("target", model.target),
        ("gpu", gpus(model)),
        ("artifact", f"{model.artifact.filename}, {_size(model)}" if model.artifact else None),
        ("replicas", running(model)),
        ("created", f"{model.created_at} by {model.created_by}" if model.created_by else model.created_at),
        ("made from", model.parent),
        ("metadata", json.dumps(model.metadata, ensure_ascii=False) if model.metadata else None),
        ("traffic", "none: it runs beside the version that answers" if model.traffic == "none" else None),
        ("live since", model.live_at),
        ("acceleration", acceleration(model)),
        ("restarts", str(len(model.restarts)) if model.restarts else None),
        ("last restart", f"{model.restarts[-1].at}: {model.restarts[-1].reason}" if model.restarts else None),
        ("took", timings(model)),
    ]
    blocks = [f"{printable(model.name)} {printable(model.version)}", _facts(facts)]
    if model.description:
        blocks.insert(1, printable(model.description))
    if listed := replicas_table(model):
        blocks.append(listed)
    if model.signature and model.signature.inputs:
        rows = [(tensor.name, tensor.datatype, _shape(tensor.shape)) for tensor in model.signature.inputs]
        blocks.append(table(("INPUT", "TYPE", "SHAPE"), rows))
    if evidence := pins(model):
        blocks.append(evidence)
    return "\n\n".join(blocks)


def gpus(model: Model) -> str | None:
    """Return which GPUs, or how many, each replica gets; None for none."""
    wanted = model.document.get("gpu")
    if wanted is True:
        return "all GPUs of the engine"
    return ", ".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted) if wanted else None


def pins(model: Model) -> str:
    """Return a table of the environment, with the evidence for each package; "" if nothing is known of it."""
    if model.environment is None:
        return ""
    rows = [(pin.distribution + pin.specifier, pin.evidence) for pin in model.environment.pins]
    python = (f"Python {model.environment.python}", model.environment.python_evidence)
    return table(("ENVIRONMENT", "BECAUSE"), [python, *rows])


def acceleration(model: Model) -> str | None:
    """Return whether an accelerated variant serves, and its measurements; None if the server does not report it."""
    acceleration = model.document.get("acceleration") or {}
    gains = ", ".join(f"{gain:g}× for {rows} row(s)" for rows, gain in (acceleration.get("speedup") or {}).items())
    if acceleration.get("status") == "accelerated":
        return f"in ONNX, {gains}, equal on {acceleration.get('rows_compared')} rows"
    return ": ".join(str(part) for part in (acceleration.get("status"), acceleration.get("reason")) if part) or None


def timings(model: Model) -> str:
    return ", ".join(f"{printable(step)} {duration(spent / 1000)}" for step, spent in model.timings_ms.items())


def _facts(facts: list[tuple[str, str | None]]) -> str:
    return "\n".join(f"  {name:<13} {printable(value)}" for name, value in facts if value)


def _shape(shape: list[int]) -> str:
    return " × ".join("any" if length < 0 else str(length) for length in shape)


def _size(model: Model) -> str:
    return size(model.artifact.size_bytes) if model.artifact else "-"


def _chosen(here: Session, refs: list[str], failed: bool) -> list[Model]:
    if bool(refs) == failed:
        raise InvalidRequest("Give models or --failed.", hint="For example: prism models rm iris@1.0.0")
    if failed:
        return [model for model in here.client.models.list() if model.status == "failed"]
    return list({model.model_id: model for model in map(here.client.models.get, refs)}.values())


def _confirmed(here: Session, models: list[Model], no_input: bool) -> bool:
    names = ", ".join(printable(model.ref or model.model_id) for model in models)
    if no_input or here.output.as_json or not sys.stdin.isatty():
        raise BadInput(f"Removing {names} cannot be undone.", hint="Add --yes to remove without confirmation.")
    return typer.confirm(f"Remove {names} and all files of it?", err=True)


def _say_what_it_stops(here: Session, ref: str, keep: bool | None) -> bool:
    """Name the models of other names that a start will stop. Returns whether there are any."""
    name = here.client.models.get(ref).name
    with suppress(NotFoundError):  # an older server cannot foresee it
        foreseen = here.client.models.replacement(ref, keep=keep)
        if foreseen.stops and foreseen.name == name:
            here.output.say(stops_others(foreseen))
            return True
    return False


def stops_others(foreseen: Replacement) -> str:
    """Return a sentence that names the models which will be stopped for one that goes live."""
    stopped = ", ".join(map(printable, foreseen.stops))
    return (
        f"Once {printable(foreseen.name)} is live, this stops {stopped}: one model is live at a time. "
        "With --keep they run side by side."
    )


def _say_outcome(here: Session, model: Model, wanted: str) -> None:
    name = model.ref or model.model_id
    here.output.data(model.document, f"{printable(name)} is {printable(model.status)}.")
    if model.status == wanted == "live":
        here.output.next_step(f"prism predict {model.name} '<JSON>'", f"prism logs {model.name} --follow")
    elif model.status == "stopped":
        here.output.next_step(f"prism models start {name}")
    if model.status != wanted:
        if model.error:
            here.output.error(model.error)
        raise typer.Exit(UNHEALTHY)
