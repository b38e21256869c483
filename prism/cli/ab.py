"""`prism ab start`, `results` and `stop`: callers divided among versions, and what their feedback shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import BadInput
from prism.cli.help import Group, examples
from prism.cli.output import printable, table
from prism.cli.session import Json, KeyFile, Session, Url, session

if TYPE_CHECKING:
    from prism.experiments import Experiment, MetricVariant, Results

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]

app = typer.Typer(
    cls=Group,
    help="Divide callers among versions, and compare what their feedback shows.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    epilog=examples(
        "prism ab start fraud --variant 1.4.0=50 --variant 2.0.0=50",
        "prism ab start fraud --variant 1.4.0=90 --variant 2.0.0=10 --key body:user_id",
    )
)
def start(
    name: Name,
    variant: Annotated[
        list[str], typer.Option(metavar="VERSION=WEIGHT", help="A version and its weight; given for each of them.")
    ],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="What callers are told apart by where X-Prism-Key is not sent: query:user, body:user_id; default: the "
            "API key.",
        ),
    ] = None,
    allow_signature_change: Annotated[
        bool, typer.Option("--allow-signature-change", help="Begin although callers of the live version would break.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Divide a model's callers among versions; each caller keeps its version."""
    with session(as_json, url, key_file) as here:
        variants = dict(map(_weighted, variant))
        show(here, here.client.create_experiment(name, variants, key, allow_signature_change=allow_signature_change))
        here.output.next_step(f"prism ab results {name}")


@app.command(epilog=examples("prism ab results fraud", "prism ab results fraud --lower-is-better --json"))
def results(
    name: Name,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Less of a metric is better.")] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Show how the versions differ, with intervals that hold however often they are looked at."""
    with session(as_json, url, key_file) as here:
        found = here.client.experiment(name).results(lower_is_better=lower_is_better)
        here.output.data(found.document, described(found))


@app.command(epilog=examples("prism ab stop fraud --winner 2.0.0", "prism ab stop fraud"))
def stop(
    name: Name,
    winner: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Version that answers from now on; default: as before.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """End an experiment: one version gets all requests, the others are stopped."""
    with session(as_json, url, key_file) as here:
        show(here, here.client.experiment(name).stop(winner))


def show(here: Session, experiment: Experiment) -> None:
    shares = ", ".join(f"{version}: {share:g} %" for version, share in experiment.split.items())
    reason = f" ({printable(experiment.record.reason)})" if experiment.record.reason else ""
    text = f"{printable(experiment.name)}  experiment {experiment.id}  {experiment.state}{reason}  {shares}"
    here.output.data(experiment.record.document, text)


def described(found: Results) -> str:
    """Return results as a person reads them: the callers of each version, then each metric."""
    heads = ("VERSION", "SHARE", "CALLERS")
    rows = [(each.version, f"{each.percentage:g} %", f"{each.keys:,}") for each in found.variants]
    parts = [table(heads, rows)]
    for name, metric in found.metrics.items():
        outcome = f"{metric.outcome}: {metric.winner}" if metric.winner else metric.outcome
        adjusted = ", adjusted by values from before" if metric.adjusted else ""
        lines = [_row(each, found.control) for each in metric.variants]
        parts.append(
            f"{printable(name)}: {outcome}{adjusted}\n{table(('VERSION', 'CALLERS', 'MEAN', 'DIFFERENCE'), lines)}"
        )
    if not found.metrics:
        parts.append(f"{found.outcome}; no feedback was reported yet")
    return "\n\n".join(parts)


def _row(variant: MetricVariant, control: str) -> tuple[str, str, str, str]:
    mean = "-" if variant.mean is None else f"{variant.mean:.6g}"
    found = variant.interval
    if found is None:
        difference = "control" if variant.version == control else "too few callers"
    else:
        difference = f"{found.difference:+.6g} ({found.low:+.6g} to {found.high:+.6g})"
    return variant.version, f"{variant.keys:,}", mean, difference


def _weighted(text: str) -> tuple[str, float]:
    version, _, weight = text.rpartition("=")
    try:
        share = float(weight)
    except ValueError:
        version, share = "", 0.0
    if not version:
        raise BadInput(f"`{text}` is not VERSION=WEIGHT.", hint="For example --variant 2.0.0=50.")
    return version, share
