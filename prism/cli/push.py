"""`prism push`: from a model file to a live endpoint."""

from __future__ import annotations

import json
import secrets
import shlex
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.errors import BadInput
from prism.cli.canary import show
from prism.cli.models import pins, stops_others
from prism.cli.output import printable
from prism.cli.predict import check_json
from prism.cli.progress import Progress
from prism.cli.session import Json, KeyFile, Session, Url, session

if TYPE_CHECKING:
    from prism.requests import DeployOptions, Traffic
    from prism.responses import Model

LONGEST_SAMPLE = 4000
"""Longest sample, in characters, that makes a command line worth copying."""


class Strategy(StrEnum):
    FULL = "full"
    NONE = "none"
    CANARY = "canary"


TRAFFIC: dict[Strategy, Traffic | None] = {Strategy.FULL: None, Strategy.NONE: "none", Strategy.CANARY: "auto"}
"""What each strategy asks of the server. A canary needs a live version; without one, the first takes all requests."""


class BumpChoice(StrEnum):
    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


def push(
    file: Annotated[
        Path,
        typer.Argument(exists=True, help="A model file, an archive (.zip, .tar.gz), or a folder, which is zipped."),
    ],
    name: Annotated[str | None, typer.Option(help="The model's name; default: derived from the file name.")] = None,
    description: Annotated[str | None, typer.Option(help="What the model does.")] = None,
    expected_input: Annotated[
        str | None,
        typer.Option("--expected-input", metavar="JSON|@FILE", help="A request body that the model can answer."),
    ] = None,
    requirements: Annotated[
        str | None, typer.Option(metavar="FILE|TEXT", help="Packages; they take precedence over what PRISM infers.")
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", metavar="3.11", help="Python version for the model.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Where the model runs: docker or process.")] = None,
    code: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            metavar="FILE|FOLDER",
            help="Python code that the model needs, such as features.py, src or train.py. Of a script only the definitions "
            "are used. May be repeated.",
        ),
    ] = None,
    allow_unsafe: Annotated[
        bool, typer.Option("--allow-unsafe", help="Consent to load a file with dangerous globals.")
    ] = False,
    allow_package: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|MODULE=NAME",
            help="Allow a package that PRISM does not know; its code runs in the sandbox. May be repeated.",
        ),
    ] = None,
    accelerate: Annotated[
        bool | None,
        typer.Option(
            "--accelerate/--no-accelerate", help="Serve the model in ONNX if that is proven equal and faster."
        ),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Give the container all GPUs of the engine.")] = False,
    replicas: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of copies that serve, 1 to 64; each holds the model in memory."),
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--no-keep",
            help="Keep other models running beside this one, also for its later versions; default: as for the last version.",
        ),
    ] = None,
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="full: it takes over once it answers; none: it runs beside the live version without requests; "
            "canary: it gets a share of them, and is judged."
        ),
    ] = Strategy.FULL,
    percent: Annotated[
        float | None, typer.Option(metavar="SHARE", help="A canary's share of the requests; default: 5.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show a canary as it goes, until it is decided.")
    ] = False,
    version: Annotated[
        str | None, typer.Option("--set-version", metavar="2.0.0", help="Number of the version; default: the next one.")
    ] = None,
    bump: Annotated[
        BumpChoice | None, typer.Option(help="Part of the highest version's number to raise; default: minor.")
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE", help="An object to keep with the version, such as metrics and a commit."),
    ] = None,
    run: Annotated[bool, typer.Option("--run/--no-run", help="Start the model, or only store and build it.")] = True,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Serve a model file or folder: upload, inspect, build, start, probe."""
    with session(as_json, url, key_file) as here:
        _check_canary(strategy, percent, follow=follow, run=run)
        options: DeployOptions = {
            "name": name,
            "description": description,
            "expected_input": _expected_input(expected_input),
            "requirements": _requirements(requirements),
            "python_version": python,
            "target": target,
            "code_files": code or [],
            "allow_unsafe": allow_unsafe,
            "allow_packages": allow_package or [],
            "accelerate": accelerate,
            "replicas": replicas,
            "keep": keep,
            "gpu": gpu,
            "version": version,
            "bump": bump.value if bump else None,
            "traffic": TRAFFIC[strategy],
            "metadata": _metadata(metadata),
        }
        if run and strategy is Strategy.FULL:
            _say_what_it_stops(here, file, name, keep)
        model = _send(here, file, run, options)
        if strategy is Strategy.CANARY and model.traffic == "none":
            here.output.say(_summary(here, model))
            return show(here, here.client.create_canary(model.name, model.version, percent), follow)
        here.output.data(model.document, _summary(here, model))
        if run:
            if strategy is Strategy.NONE:
                here.output.next_step(
                    f"prism diff {model.name}", f"prism models start {model.ref}   gives it the requests"
                )
                return
            before = [f"prism rollback {model.name}   makes the version before live again"] if _has_older(model) else []
            here.output.next_step(f"prism logs {model.name} --follow", *before, "prism status")
        else:
            here.output.next_step(f"prism models start {model.ref or model.model_id}")


def _check_canary(strategy: Strategy, percent: float | None, *, follow: bool, run: bool) -> None:
    """Raises BadInput for options of a canary without one, and for one that would not be started."""
    if strategy is Strategy.CANARY and not run:
        raise BadInput("A canary answers requests, and --no-run does not start it.", hint="Leave out one of them.")
    if strategy is not Strategy.CANARY and (percent is not None or follow):
        raise BadInput("--percent and --follow are for --strategy canary.", hint="Add it, or leave them out.")


def curl(model: Model, with_key: bool) -> str:
    """Return a command line that calls the model, ready to copy; "" if no sample is known or it is too long."""
    if not model.endpoint or model.sample is None:
        return ""
    sample = json.dumps(model.sample, ensure_ascii=False)
    if len(sample) > LONGEST_SAMPLE:
        return ""
    key = ' -H "X-API-Key: $PRISM_API_KEY"' if with_key else ""
    return f"curl -s {shlex.quote(model.endpoint)} -H 'Content-Type: application/json'{key} -d {shlex.quote(sample)}"


def _say_what_it_stops(here: Session, file: Path, name: str | None, keep: bool | None) -> None:
    """Name the models of other names that will be stopped, while there is time to interrupt."""
    from prism.errors import NotFoundError

    with suppress(NotFoundError):  # an older server cannot foresee it
        foreseen = here.client.replacement(file, name=name, keep=keep)
        if foreseen.stops:
            here.output.say(stops_others(foreseen))


def _send(here: Session, file: Path, run: bool, options: DeployOptions) -> Model:
    from prism.cli.queue_place import told_place

    progress = Progress(here.output, run=run)
    options["on_bytes"] = progress.on_bytes
    options["request_id"] = request_id = secrets.token_hex(8)
    send = here.client.deploy if run else here.client.upload
    try:
        with progress.shown(), told_place(here.client, request_id, progress.on_place):
            return send(file, on_status=progress.on_status, **options)
    except KeyboardInterrupt:
        here.output.say("The deployment of an uploaded model continues; `prism ls` shows it.")
        raise


def _has_older(model: Model) -> bool:
    return model.version not in ("", "1.0.0")


def _summary(here: Session, model: Model) -> str:
    state = f"{printable(model.ref or model.model_id)} is {printable(model.status)}"
    if model.status == "live" and model.endpoint:
        state += f" at {model.endpoint}"
    if model.status == "live" and model.stops:
        state += f"\nStopped: {', '.join(map(printable, model.stops))}"
    return "\n\n".join(part for part in (pins(model), _code(model), state, curl(model, here.uses_key)) if part)


def _code(model: Model) -> str:
    """Return what of the owner's scripts is used, and what they lack; "" without scripts."""
    facts = (model.document.get("inspection") or {}).get("facts", {})
    told = [(name, text) for name, text in facts.items() if name.startswith(("code of ", "missing in "))]
    return "\n".join(printable(f"{name[0].upper()}{name[1:]}: {text}.") for name, text in told)


def _expected_input(given: str | None) -> bytes | None:
    if given is None:
        return None
    source = given.removeprefix("@")
    body = Path(source).read_bytes() if given.startswith("@") else given.encode()
    check_json(body, source if given.startswith("@") else "--expected-input")
    return body


def _metadata(given: str | None) -> dict[str, Any] | None:
    """Return the object of metadata. Raises BadInput unless it is one."""
    body = _expected_input(given)
    if body is None:
        return None
    metadata = json.loads(body)
    if not isinstance(metadata, dict):
        raise BadInput("--metadata is not a JSON object.", hint="""For example: --metadata '{"auc": 0.94}'.""")
    return metadata


def _requirements(given: str | None) -> str | None:
    """Return the text of the requirements: a file's content, or the option's own text."""
    if given is None or not given.strip():
        return None
    if "\n" not in given and Path(given).is_file():
        return Path(given).read_text()
    if given.endswith((".txt", ".in")):
        raise BadInput(f"There is no requirements file {given}.", hint="Give a file, or packages: 'numpy==2.1'.")
    return given
