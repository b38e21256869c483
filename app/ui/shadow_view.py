"""Contents of the tab Shadow: how far it agrees with production, what it costs in time, and where it differs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from msgspec import Struct

from app.core.rollout.agreement import Disagreement, Latency
from app.core.rollout.canary import Versions
from app.core.rollout.compare import Difference
from app.core.rollout.records import Rollout, RolloutState
from app.lifecycle.rollouts.shadows import ShadowReport
from app.ui.figures import milliseconds, percent
from app.ui.statuses import Badge

TONES = {RolloutState.RUNNING: "accent", RolloutState.DONE: "", RolloutState.FAILED: "bad"}
DISAGREEMENTS_SHOWN = 20
WHOLE = "the whole answer"


class ShadowView(Struct, frozen=True):
    """Contents of the panel. agreement: "" before the first comparison. facts: label and text of each.

    fields: each with how often it differed and whether that is noise. disagreements: time, request id and what differs.
    """

    rollout: Rollout
    badge: Badge
    title: str
    agreement: str
    facts: Sequence[tuple[str, str]]
    fields: Sequence[tuple[str, str, str]]
    disagreements: Sequence[tuple[str, str, str]]
    lost: str


def shadow_view(rollout: Rollout, versions: Versions, report: ShadowReport) -> ShadowView:
    """Gather the panel of a shadow."""
    found, copies = report.agreement, report.copies
    return ShadowView(
        rollout=rollout,
        badge=Badge(rollout.state.value, TONES.get(rollout.state, "")),
        title=f"{versions.candidate}, shadow of {versions.stable}",
        agreement=percent(found.agreement) if found.agreement is not None else "",
        facts=[
            ("Compared", f"{found.compared:,} answers, of which {found.failed:,} failed"),
            ("Not compared", f"{found.uncompared:,}"),
            ("Copies", f"{copies.sent:,} sent, {copies.dropped:,} dropped"),
            (f"Latency of {versions.stable}", _latency(found.production_latency)),
            (f"Latency of {versions.candidate}", _latency(found.shadow_latency)),
        ],
        fields=[
            (
                field.field or WHOLE,
                f"{field.differing:,}",
                "noise: production differs as often" if field.is_noise else "",
            )
            for field in found.fields
        ],
        disagreements=[
            (each.at, each.request_id, _what_differs(each)) for each in found.disagreements[:DISAGREEMENTS_SHOWN]
        ],
        lost=report.lost,
    )


def _latency(latency: Latency) -> str:
    if latency.p50_ms is None:
        return "not known yet"
    return f"{milliseconds(latency.p50_ms)}, p99 {milliseconds(latency.p99_ms)}"


def _what_differs(each: Disagreement) -> str:
    return each.cause or "; ".join(map(_difference, each.differences))


def _difference(each: Difference) -> str:
    before, after = (json.dumps(value, ensure_ascii=False) for value in (each.production, each.shadow))
    return f"{each.path or WHOLE}: {before} → {after}"
