"""`prism versions` and `prism diff`, also under `prism models`: a model's lineage, and what differs between two versions."""

from __future__ import annotations

from typing import Annotated

import typer

from prism.cli.help import examples
from prism.cli.models import app as models
from prism.cli.output import printable, table
from prism.cli.session import Json, KeyFile, Url, session
from prism.responses import Version

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]


@models.command(epilog=examples("prism models versions iris", "prism models versions iris --json"))
def versions(name: Name, as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """List a model's versions: what each was made from, by whom, and its share of the requests."""
    with session(as_json, url, key_file) as here:
        lineage = here.client.versions(name)
        rows = [
            (
                each.version,
                each.status,
                f"{each.share:.0%}",
                each.parent or "-",
                each.created_at[:19],
                printable(each.created_by or "-"),
                ", ".join(f"{metric} {value:g}" for metric, value in metrics(each).items()) or "-",
            )
            for each in reversed(lineage)
        ]
        heads = ("VERSION", "STATUS", "TRAFFIC", "MADE FROM", "CREATED", "BY", "METRICS")
        here.output.data({"versions": [each.document for each in lineage]}, table(heads, rows))
        if len(lineage) > 1:
            here.output.next_step(f"prism diff {name}", f"prism rollback {name}")


@models.command(epilog=examples("prism models diff iris", "prism models diff iris 1.0.0 2.0.0"))
def diff(
    name: Name,
    before: Annotated[
        str | None, typer.Argument(metavar="FROM", help="A version; default: the other's parent.")
    ] = None,
    after: Annotated[str | None, typer.Argument(metavar="TO", help="A version; default: the one that answers.")] = None,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Compare two versions: signature, packages, size, metrics and measured speed."""
    with session(as_json, url, key_file) as here:
        found = here.client.diff(name, before, after)
        facts = [found.size_bytes] if found.size_bytes.before != found.size_bytes.after else []
        facts += [found.python] if found.python.before != found.python.after else []
        groups = (
            ("", facts),
            ("input ", found.inputs),
            ("output ", found.outputs),
            ("package ", found.packages),
            ("metric ", found.metrics),
            ("speedup, rows ", found.speedup),
        )
        rows = [
            (printable(f"{kind}{change.name}"), _fact(change.before), _fact(change.after))
            for kind, changes in groups
            for change in changes
        ]
        heads = ("WHAT DIFFERS", found.before, found.after)
        same = "The files are the same byte for byte." if found.same_artifact else "Only the files differ."
        listing = table(heads, rows) if rows else same
        broken = "\n".join(f"Breaks callers: {printable(reason)}" for reason in found.breaks)
        here.output.data(found.document, f"{listing}\n\n{broken}".rstrip())


def metrics(version: Version) -> dict[str, float]:
    """Return the numbers of a version's metadata, those under `metrics` included."""
    given = version.metadata.get("metrics")
    numbers = {**version.metadata, **(given if isinstance(given, dict) else {})}
    return {name: value for name, value in numbers.items() if type(value) in (int, float)}


def _fact(value: object) -> str:
    return "-" if value is None else printable(str(value))
