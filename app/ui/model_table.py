"""Table of models on the dashboard: one row a model, its other versions below it, searched, filtered and in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from app.core.model import Deployment, ModelVersion, Status
from app.core.route_table import is_serving
from app.lifecycle.health.usage import ModelUsage, ReplicaUsage, usage_of
from app.observe.history import History
from app.ui.charts import Spark, spark
from app.ui.figures import memory, milliseconds, percent, significant
from app.ui.statuses import Badge, badge, in_progress

PER_PAGE = 50

Filter = Literal["all", "live", "failed", "stopped"]
FILTERS: tuple[Filter, ...] = ("all", "live", "failed", "stopped")


class Line(Struct, frozen=True):
    """One version with its status."""

    model: ModelVersion
    deployment: Deployment
    badge: Badge


class Figures(Struct, frozen=True):
    """Traffic and resources of a version that is live or on its way. errors, memory: as text; memory is "" if unknown.

    replicas: how many of the wanted replicas run, as text; "" if only one is wanted and runs.
    """

    rate: Spark
    latency: Spark
    errors: str
    erroneous: bool
    memory: str
    replicas: str


class Row(Struct, frozen=True):
    """One model. first: the version that stands for it. figures: None if that version is not active.

    others: its other versions, newest first.
    """

    first: Line
    figures: Figures | None
    others: Sequence[Line]


class Wish(Struct, frozen=True):
    """Choice of rows. text: part of a name or description, in any case. page: counted from 1."""

    text: str = ""
    only: Filter = "all"
    page: int = 1


class Table(Struct, frozen=True):
    """One page of the table. counts: the number of models that match the text, by filter. found: those of this filter."""

    rows: Sequence[Row]
    wish: Wish
    counts: Mapping[Filter, int]
    pages: int

    @property
    def found(self) -> int:
        return self.counts[self.wish.only]


def is_active(deployment: Deployment) -> bool:
    return is_serving(deployment) or in_progress(deployment) or deployment.status is Status.UNHEALTHY


def grouped(known: Sequence[tuple[ModelVersion, Deployment]]) -> list[tuple[Line, list[Line]]]:
    """Return each model as (the version that stands for it, its other versions). known: all versions, newest first.

    A version that serves stands for its model; otherwise one on its way; otherwise the newest. Models on their way come
    first, then active ones by name, then failed ones, then the rest; those newest first.
    """
    by_name: dict[str, list[Line]] = {}
    for model, deployment in known:
        by_name.setdefault(model.name, []).append(Line(model, deployment, badge(deployment)))
    groups = []
    for lines in by_name.values():
        first = min(lines, key=lambda line: (not is_serving(line.deployment), not is_active(line.deployment)))
        groups.append((first, [line for line in lines if line is not first]))
    active = [group for group in groups if is_active(group[0].deployment)]
    active.sort(key=lambda group: (not any(map(on_its_way, [group[0], *group[1]])), group[0].model.name))
    idle = [group for group in groups if not is_active(group[0].deployment)]
    idle.sort(key=lambda group: group[0].deployment.status is not Status.FAILED)
    return [*active, *idle]


def on_its_way(line: Line) -> bool:
    return in_progress(line.deployment)


def filter_of(deployment: Deployment) -> Filter:
    """Return the filter that shows a model, by the version that stands for it."""
    if is_active(deployment):
        return "live"
    return "failed" if deployment.status is Status.FAILED else "stopped"


def choose(groups: Sequence[tuple[Line, list[Line]]], wish: Wish) -> tuple[list[tuple[Line, list[Line]]], Table]:
    """Return the groups of one page, and the table without its rows."""
    matching = [group for group in groups if matches(group[0].model, wish.text)]
    kinds = [filter_of(first.deployment) for first, _ in matching]
    counts: dict[Filter, int] = {kind: kinds.count(kind) for kind in FILTERS[1:]}
    found = [group for group, kind in zip(matching, kinds, strict=True) if wish.only in ("all", kind)]
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(max(1, wish.page), pages)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    return shown, Table((), Wish(wish.text, wish.only, page), {"all": len(matching), **counts}, pages)


def matches(model: ModelVersion, text: str) -> bool:
    wanted = text.strip().casefold()
    return wanted in model.name.casefold() or wanted in model.spec.description.casefold()


def rows(
    groups: Sequence[tuple[Line, list[Line]]], history: History, uses: Mapping[str, ReplicaUsage]
) -> Iterator[Row]:
    """Yield the rows of groups. uses: resource usage by replica id."""
    for first, others in groups:
        active = is_active(first.deployment)
        yield Row(first, figures(first, history, usage_of(first.deployment, uses)) if active else None, others)


def figures(line: Line, history: History, use: ModelUsage) -> Figures:
    model = line.model
    moments, recent = history.moments(model.model_id), history.recent(model.model_id)
    several = model.spec.replicas > 1 or use.replicas > 1
    return Figures(
        rate=spark(moments, history.kept_seconds, lambda step: step.per_second, lambda value: significant(value or 0)),
        latency=spark(moments, history.kept_seconds, lambda step: step.latency_ms(0.95), milliseconds),
        errors=percent(recent.error_rate) if recent.requests else "–",
        erroneous=recent.error_rate >= 0.01,
        memory=memory(use.memory_bytes) if use.memory_bytes else "",
        replicas=f"{use.replicas} of {model.spec.replicas} replicas" if several else "",
    )
