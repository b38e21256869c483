"""A shadow as text: how far it agrees, what it costs in time, and where it differs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prism.cli.output import printable

if TYPE_CHECKING:
    from prism.shadows import Difference, DifferingField, Disagreement, Latency, ShadowReport

SHOWN = 10
"""How many of the last disagreements are shown."""


def describe(report: ShadowReport) -> str:
    """Return the lines that show a report."""
    copies, latency = report.copies, report.latency
    rows = [
        ("Agreement", _agreement(report)),
        ("Copies", f"{copies.sent:,} sent, {copies.answered:,} answered, {copies.dropped:,} dropped"),
        ("Latency", f"production {_latency(latency.production)}; shadow {_latency(latency.shadow)}"),
        ("Lost", report.lost or ""),
        ("Why", report.reason or ""),
    ]
    lines = [f"{label:<9} {printable(text)}" for label, text in rows if text]
    head = f"{report.name}: {report.shadow_version} is the shadow of {report.production_version}, {report.state}"
    fields = ["Fields that differ:", *map(_field, report.fields)] if report.fields else []
    last = report.disagreements[:SHOWN]
    shown = ["Last disagreements:", *map(_disagreement, last)] if last else []
    return "\n".join([printable(head), *lines, *fields, *shown])


def _agreement(report: ShadowReport) -> str:
    if report.agreement is None:
        return "nothing compared yet"
    text = f"{_percent(report.agreement)} of {report.compared:,} answers; {report.failed:,} failed"
    return f"{text}, {report.uncompared:,} could not be compared" if report.uncompared else text


def _percent(share: float) -> str:
    """Format a share so that only all of it is 100 %."""
    return "100 %" if share == 1 else f"{min(share, 0.9999):.2%}".replace("%", " %")


def _latency(latency: Latency) -> str:
    if latency.p50_ms is None or latency.p99_ms is None:
        return "not known yet"
    return f"{latency.p50_ms:.1f} ms (p99 {latency.p99_ms:.1f} ms)"


def _field(field: DifferingField) -> str:
    noise = ", as production does from itself" if field.is_noise else ""
    return printable(f"  {field.field or '(the whole answer)'}: {field.differing:,} times{noise}")


def _disagreement(each: Disagreement) -> str:
    what = each.cause or "; ".join(map(_difference, each.differences))
    return printable(f"  {each.at[11:19]} {each.request_id} {what}")


def _difference(each: Difference) -> str:
    return f"{each.path or '(the whole answer)'}: {_value(each.production)} → {_value(each.shadow)} ({each.kind})"


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
