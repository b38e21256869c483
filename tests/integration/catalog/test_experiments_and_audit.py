"""Feedback counts once for each request and metric; the audit log is read page by page."""

from __future__ import annotations

import pytest
from msgspec import structs

from app.core.audit import AuditEntry
from app.core.rollout.feedback import Feedback, KeyTotal
from app.errors import BadInput, Conflict, NotFound
from app.lifecycle.audit import AuditLog
from app.lifecycle.rollouts.experiments import ExperimentStore
from app.registry.catalog.audit import SqlAuditLog
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.experiments import SqlExperimentStore
from app.registry.catalog.rollouts import SqlRolloutStore
from tests.integration.catalog.records_lab import at, canary, event


@pytest.fixture
async def experiments(database: CatalogDatabase) -> ExperimentStore:
    await SqlRolloutStore(database).begin(canary(), event(canary()))
    return SqlExperimentStore(database)


def value(number: float, key: str = "ada", arm: str = "a1", metric: str = "sale", request_id: str = "") -> Feedback:
    return Feedback("r1", arm, key, metric, number, at(1), request_id)


async def test_a_key_stays_with_the_arm_that_it_met_first(experiments: ExperimentStore) -> None:
    await experiments.meet("r1", {"ada": "a1", "bob": "a2", "eve": "a2"}, at(1))
    await experiments.meet("r1", {"ada": "a2", "zoe": "a1"}, at(2))
    await experiments.meet("r1", {}, at(3))

    assert await experiments.met("r1") == {"a1": 2, "a2": 2}
    assert await experiments.met("r2") == {}
    with pytest.raises(NotFound, match="no rollout `r2`"):
        await experiments.meet("r2", {"ada": "a1"}, at(1))


async def test_values_from_before_the_experiment_stand_apart(experiments: ExperimentStore) -> None:
    for report in (value(1), value(7), structs.replace(value(3), is_past=True)):
        await experiments.add(report)
    await experiments.add(structs.replace(value(4, "bob"), is_past=True))

    assert await experiments.totals("r1", "sale") == (
        KeyTotal("a1", "ada", 2, 8.0, 3.0),
        KeyTotal("a1", "bob", 0, 0.0, 4.0),
    )


async def test_values_are_added_up_by_arm_and_key(experiments: ExperimentStore) -> None:
    reports = [value(1), value(2.5), value(4, "bob", "a2"), value(9, metric="refund"), value(3, "bob", request_id="q1")]
    for report in reports:
        assert await experiments.add(report)

    assert await experiments.metrics("r1") == ("refund", "sale")
    assert await experiments.totals("r1", "sale") == (
        KeyTotal("a1", "ada", 2, 3.5),
        KeyTotal("a1", "bob", 1, 3.0),
        KeyTotal("a2", "bob", 1, 4.0),
    )
    assert await experiments.totals("r2", "sale") == ()


async def test_a_request_has_one_value_of_a_metric(experiments: ExperimentStore) -> None:
    assert await experiments.add(value(1, request_id="q1"))
    assert not await experiments.add(value(1, request_id="q1"))
    assert await experiments.add(value(5, metric="refund", request_id="q1"))

    with pytest.raises(Conflict, match="`sale` of the request `q1` is recorded as 1"):
        await experiments.add(value(0, request_id="q1"))

    assert await experiments.totals("r1", "sale") == (KeyTotal("a1", "ada", 1, 1.0),)


async def test_feedback_for_no_rollout_and_no_number_are_refused(experiments: ExperimentStore) -> None:
    for request_id in ("", "q1"):
        with pytest.raises(NotFound, match="no rollout `r9`"):
            await experiments.add(structs.replace(value(1, request_id=request_id), rollout_id="r9"))
    with pytest.raises(BadInput, match="nan of `sale` is not a finite number"):
        value(float("nan"))


async def test_the_audit_log_is_read_from_the_newest_entry_on(database: CatalogDatabase) -> None:
    log: AuditLog = SqlAuditLog(database)
    entries = [
        await log.add(AuditEntry(at(number), "ada", "alias set", f"fraud@{number % 2}", {"to": f"a{number}"}))
        for number in range(5)
    ]

    assert await log.list() == tuple(reversed(entries))
    assert await log.list(limit=2, before=entries[3].number) == (entries[2], entries[1])
    assert await log.list("fraud@1") == (entries[3], entries[1])
