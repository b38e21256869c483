"""Feedback counts once for each request and metric; the audit log is read page by page."""

from __future__ import annotations

import pytest
from msgspec import structs

from app.core.audit import AuditEntry
from app.core.rollout.feedback import Feedback, KeyTotal
from app.errors import BadInput, Conflict, NotFound
from app.lifecycle.audit import AuditLog
from app.lifecycle.rollouts.feedback import FeedbackStore
from app.registry.catalog.audit import SqlAuditLog
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.feedback import SqlFeedbackStore
from app.registry.catalog.rollouts import SqlRolloutStore
from tests.integration.catalog.records_lab import at, canary, event


@pytest.fixture
async def feedback(database: CatalogDatabase) -> FeedbackStore:
    await SqlRolloutStore(database).begin(canary(), event(canary()))
    return SqlFeedbackStore(database)


def value(number: float, key: str = "ada", arm: str = "a1", metric: str = "sale", request_id: str = "") -> Feedback:
    return Feedback("r1", arm, key, metric, number, at(1), request_id)


async def test_values_are_added_up_by_arm_and_key(feedback: FeedbackStore) -> None:
    reports = [value(1), value(2.5), value(4, "bob", "a2"), value(9, metric="refund"), value(3, "bob", request_id="q1")]
    for report in reports:
        assert await feedback.add(report)

    assert await feedback.metrics("r1") == ("refund", "sale")
    assert await feedback.totals("r1", "sale") == (
        KeyTotal("a1", "ada", 2, 3.5),
        KeyTotal("a1", "bob", 1, 3.0),
        KeyTotal("a2", "bob", 1, 4.0),
    )
    assert await feedback.totals("r2", "sale") == ()


async def test_a_request_has_one_value_of_a_metric(feedback: FeedbackStore) -> None:
    assert await feedback.add(value(1, request_id="q1"))
    assert not await feedback.add(value(1, request_id="q1"))
    assert await feedback.add(value(5, metric="refund", request_id="q1"))

    with pytest.raises(Conflict, match="`sale` of the request `q1` is recorded as 1"):
        await feedback.add(value(0, request_id="q1"))

    assert await feedback.totals("r1", "sale") == (KeyTotal("a1", "ada", 1, 1.0),)


async def test_feedback_for_no_rollout_and_no_number_are_refused(feedback: FeedbackStore) -> None:
    for request_id in ("", "q1"):
        with pytest.raises(NotFound, match="no rollout `r9`"):
            await feedback.add(structs.replace(value(1, request_id=request_id), rollout_id="r9"))
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
