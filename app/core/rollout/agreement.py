"""How far a shadow agrees with production: counted pair by pair, apart from what production does by itself."""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum
from math import ceil

import msgspec
from msgspec import Struct

from app.core.rollout.compare import Difference, differences, is_beyond_noise
from app.core.rollout.records import ShadowAnswer, ShadowPair

COMPARED_BYTES_MAX = 1 << 20
"""Two longer JSON answers are not compared place by place: that would take seconds."""

KEPT_DISAGREEMENTS = 50
KEPT_DIFFERENCES = 10
KEPT_LATENCIES = 1000
FIELDS_MAX = 20
SETS_MAX = 200
TEXT_MAX = 200
OTHER = "(others)"
"""Stands for the fields that are not counted one by one: a model may name as many as it likes."""


class Outcome(StrEnum):
    """AGREES, DIFFERS. FAILED: the shadow gave no good answer to what production answered. UNCOMPARED: not known, as
    the answers are binary, too long, or production's is no valid JSON; identical ones always agree."""

    AGREES = "agrees"
    DIFFERS = "differs"
    FAILED = "failed"
    UNCOMPARED = "uncompared"


class Comparison(Struct, frozen=True):
    """What one pair says. cause: of a failure, such as `status 500`. noisy: the fields in which production differed from
    itself; None if it was not asked twice."""

    outcome: Outcome
    differences: tuple[Difference, ...] = ()
    cause: str = ""
    noisy: frozenset[str] | None = None


class Disagreement(Struct, frozen=True):
    """A request that the shadow answered otherwise. at: RFC 3339. cause: of a failure; "" for a difference."""

    request_id: str
    at: str
    cause: str
    differences: tuple[Difference, ...]


class FieldReport(Struct, frozen=True):
    """A field that differed. differing: in so many pairs. noisy: in so many of the pairs of production with itself.

    is_noise: whether it differs about as often as production does from itself, and so does not count.
    """

    field: str
    differing: int
    noisy: int
    is_noise: bool


class Latency(Struct, frozen=True):
    """Latencies of good answers, the last 1,000 at most. None without any."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class Agreement(Struct, frozen=True):
    """What is known of a shadow. compared: agreed + differing + failed. uncompared: pairs that could not be compared.

    agreement: share of the compared pairs that agree, or differ in nothing but noise; None before the first one.
    noise_pairs: how often production was asked twice. disagreements: the last ones, the newest first.
    """

    compared: int = 0
    agreed: int = 0
    failed: int = 0
    uncompared: int = 0
    noise_pairs: int = 0
    agreement: float | None = None
    fields: tuple[FieldReport, ...] = ()
    production_latency: Latency = Latency()
    shadow_latency: Latency = Latency()
    disagreements: tuple[Disagreement, ...] = ()


def compare_pair(pair: ShadowPair) -> Comparison:
    """Compare the answers of a pair, in time that grows with their length: up to a second for the longest."""
    production, shadow = pair.production, pair.shadow
    noisy = None
    if pair.again is not None:
        itself = _differences(production, pair.again)
        noisy = frozenset(_fields(itself)) if itself is not None else None
    if shadow.status >= 400:
        return Comparison(Outcome.FAILED, cause=f"status {shadow.status}", noisy=noisy)
    try:
        found = _differences(production, shadow)
    except msgspec.DecodeError:
        return Comparison(Outcome.FAILED, cause="invalid", noisy=noisy)
    if found is None:
        return Comparison(Outcome.UNCOMPARED, noisy=noisy)
    return Comparison(Outcome.DIFFERS if found else Outcome.AGREES, tuple(found), noisy=noisy)


class AgreementTally:
    """The comparisons of one shadow, in memory that is bounded whatever the models answer."""

    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._sets: Counter[frozenset[str]] = Counter()  # the fields in which a pair differed
        self._noisy: Counter[str] = Counter()
        self._noise_pairs = 0
        self._production: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._shadow: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._disagreements: deque[Disagreement] = deque(maxlen=KEPT_DISAGREEMENTS)

    def add(self, pair: ShadowPair, compared: Comparison, now: str) -> None:
        """Count a pair. now: RFC 3339."""
        self._outcomes[compared.outcome] += 1
        self._production.append(pair.production.seconds)
        if compared.outcome is not Outcome.FAILED:
            self._shadow.append(pair.shadow.seconds)
        if compared.noisy is not None:
            self._noise_pairs += 1
            self._noisy.update(field if self._has_room(field) else OTHER for field in compared.noisy)
        if compared.outcome is Outcome.DIFFERS:
            fields = frozenset(_fields(compared.differences))
            has_room = fields in self._sets or len(self._sets) < SETS_MAX
            self._sets[fields if has_room else frozenset((OTHER,))] += 1
        if compared.outcome in (Outcome.DIFFERS, Outcome.FAILED):
            shown = tuple(map(_shortened, compared.differences[:KEPT_DIFFERENCES]))
            self._disagreements.append(Disagreement(pair.request_id, now, compared.cause, shown))

    def report(self) -> Agreement:
        agreed, failed = self._outcomes[Outcome.AGREES], self._outcomes[Outcome.FAILED]
        compared = agreed + failed + self._outcomes[Outcome.DIFFERS]
        fields = self._field_reports(compared)
        noise = {report.field for report in fields if report.is_noise}
        within_noise = sum(count for differing, count in self._sets.items() if differing <= noise)
        return Agreement(
            compared=compared,
            agreed=agreed,
            failed=failed,
            uncompared=self._outcomes[Outcome.UNCOMPARED],
            noise_pairs=self._noise_pairs,
            agreement=(agreed + within_noise) / compared if compared else None,
            fields=fields[:FIELDS_MAX],
            production_latency=_latency(self._production),
            shadow_latency=_latency(self._shadow),
            disagreements=tuple(reversed(self._disagreements)),
        )

    def _has_room(self, field: str) -> bool:
        return field in self._noisy or len(self._noisy) < SETS_MAX

    def _field_reports(self, compared: int) -> tuple[FieldReport, ...]:
        """Return the fields that differed, the most frequent first. What is not counted one by one is never noise."""
        differing: Counter[str] = Counter()
        for fields, count in self._sets.items():
            differing.update(dict.fromkeys(fields, count))
        return tuple(
            FieldReport(
                field,
                count,
                self._noisy[field],
                field != OTHER and not is_beyond_noise(count, compared, self._noisy[field], self._noise_pairs),
            )
            for field, count in differing.most_common()
        )


def _differences(production: ShadowAnswer, other: ShadowAnswer) -> list[Difference] | None:
    """Return where two good answers differ; None if that cannot be said.

    Raises msgspec.DecodeError if the other one is not valid JSON.
    """
    if production.is_binary == other.is_binary and production.body == other.body:
        return []
    if production.is_binary or other.is_binary or len(production.body) + len(other.body) > COMPARED_BYTES_MAX:
        return None
    try:
        expected = msgspec.json.decode(production.body)
    except (msgspec.DecodeError, RecursionError):
        return None
    try:
        return differences(expected, msgspec.json.decode(other.body))
    except RecursionError:
        return None


def _fields(found: tuple[Difference, ...] | list[Difference]) -> list[str]:
    """Return the names of the fields that differ, each once, so many and so long as are counted."""
    fields = list(dict.fromkeys(_short_text(difference.field) for difference in found))
    return fields if len(fields) <= FIELDS_MAX else [*fields[:FIELDS_MAX], OTHER]


def _shortened(difference: Difference) -> Difference:
    return Difference(
        _short_text(difference.path),
        _short_text(difference.field),
        difference.kind,
        _short_value(difference.production),
        _short_value(difference.shadow),
    )


def _short_value(value: object) -> object:
    """Return a value as it is if it is short and plain, otherwise the beginning of its JSON text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    return _short_text(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _short_text(text: str) -> str:
    """Return a text that each database takes: PostgreSQL's JSON has no null character."""
    return (text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…").replace("\0", "\ufffd")


def _latency(seconds: deque[float]) -> Latency:
    if not seconds:
        return Latency()
    ordered = sorted(seconds)
    return Latency(*(round(ordered[ceil(share * len(ordered)) - 1] * 1000, 3) for share in (0.5, 0.95, 0.99)))
