"""What is made of pairs of answers: agreement, noise, failures, all in bounded memory."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from app.core.rollout.agreement import (
    COMPARED_BYTES_MAX,
    KEPT_DISAGREEMENTS,
    SETS_MAX,
    TEXT_MAX,
    Agreement,
    AgreementTally,
    Outcome,
    compare_pair,
)
from app.core.rollout.records import ShadowAnswer, ShadowPair


def answer(document: Any, status: int = 200, seconds: float = 0.001, is_binary: bool = False) -> ShadowAnswer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return ShadowAnswer(status, body, seconds, is_binary)


def pair(production: Any, shadow: Any, again: Any = None, request_id: str = "q") -> ShadowPair:
    sides = [each if isinstance(each, ShadowAnswer) else answer(each) for each in (production, shadow)]
    return ShadowPair(request_id, *sides, again=None if again is None else answer(again))


def counted(*pairs: ShadowPair) -> Agreement:
    tally = AgreementTally()
    for each in pairs:
        tally.add(each, compare_pair(each), "2026-01-01T00:00:00Z")
    return tally.report()


@pytest.mark.parametrize(
    ("production", "shadow", "outcome", "cause"),
    [
        ({"predictions": [1.0]}, {"predictions": [1.0 + 1e-9]}, Outcome.AGREES, ""),
        ({"predictions": ["a"]}, {"predictions": ["b"]}, Outcome.DIFFERS, ""),
        ({"predictions": ["a"]}, answer(b"", 503), Outcome.FAILED, "status 503"),
        ({"predictions": ["a"]}, answer(b"nonsense"), Outcome.FAILED, "invalid"),
        (answer(b"nonsense"), {"predictions": ["a"]}, Outcome.UNCOMPARED, ""),
        (answer(b"\0\1", is_binary=True), answer(b"\0\1", is_binary=True), Outcome.AGREES, ""),
        (answer(b"\0\1", is_binary=True), answer(b"\0\2", is_binary=True), Outcome.UNCOMPARED, ""),
        ([0] * COMPARED_BYTES_MAX, [1] * COMPARED_BYTES_MAX, Outcome.UNCOMPARED, ""),
        (answer(b"[" * 100_000), answer(b"[" * 100_001), Outcome.UNCOMPARED, ""),
    ],
)
def test_what_a_pair_says(production: Any, shadow: Any, outcome: Outcome, cause: str) -> None:
    compared = compare_pair(pair(production, shadow))
    assert (compared.outcome, compared.cause) == (outcome, cause)


def test_agreement_counts_failures_against_the_shadow_and_leaves_out_what_is_not_known() -> None:
    binary = pair(answer(b"1", is_binary=True), answer(b"2", is_binary=True))
    report = counted(pair([1], [1]), pair([1], [1]), pair(["a"], ["b"]), pair([1], answer(b"", 500)), binary)
    assert (report.compared, report.agreed, report.failed, report.uncompared) == (4, 2, 1, 1)
    assert report.agreement == 0.5
    assert [each.cause for each in report.disagreements] == ["status 500", ""]
    assert report.disagreements[1].differences[0].path == "[0]"


def test_a_field_that_differs_from_itself_in_production_is_noise() -> None:
    def answered(label: str, stamp: int) -> dict[str, Any]:
        return {"label": label, "stamp": stamp}

    same = [pair(answered("a", n), answered("a", n + 1), answered("a", n + 2)) for n in range(10)]
    report = counted(*same, pair(answered("a", 1), answered("b", 2)))
    assert report.noise_pairs == 10
    assert [(field.field, field.differing, field.noisy, field.is_noise) for field in report.fields] == [
        ("stamp", 11, 10, True),
        ("label", 1, 0, False),
    ]
    assert report.agreement == 10 / 11
    assert report.agreed == 0


def test_memory_is_bounded_whatever_is_answered() -> None:
    tally = AgreementTally()
    for n in range(2 * SETS_MAX):
        hostile = {f"{n}-{m}-" + "x" * 1000: "\0" * 1000 for m in range(60)}
        each = pair({}, hostile, hostile)
        tally.add(each, compare_pair(each), "")
    report = tally.report()
    assert report.compared == 2 * SETS_MAX
    assert report.agreement == 0
    assert len(report.disagreements) == KEPT_DISAGREEMENTS
    assert report.fields[0].field == "(others)", "most pairs came when there was no room for more fields"
    text = msgspec.json.encode(report)
    assert len(text) < KEPT_DISAGREEMENTS * 10 * 4 * TEXT_MAX * 3
    assert b"\\u0000" not in text, "PostgreSQL does not take a null character"


def test_latencies_are_of_good_answers() -> None:
    slow = [ShadowPair("q", answer([1], seconds=n / 1000), answer([1], seconds=n / 100)) for n in range(1, 101)]
    report = counted(*slow, ShadowPair("q", answer([1], seconds=0.05), answer(b"", 504, seconds=30.0)))
    assert report.shadow_latency.p50_ms == 500
    assert report.shadow_latency.p99_ms == 990
    assert report.production_latency.p95_ms == 95
    assert counted().production_latency.p50_ms is None
