"""What an experiment shows: differences between arms with intervals that hold however often they are looked at.

The unit is the key, not the request: requests of one caller are alike, and would feign precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from math import exp, lgamma, log, sqrt

from msgspec import Struct

from app.core.route import Arm

ALPHA = 0.05
TUNED_FOR_KEYS = 5000
"""Number of keys at which the interval is narrowest in relation to a fixed one (gbstats' default)."""
RATIO_PRIOR = 100.0
RATIO_OFF_AT = 1000.0
EXPONENT_MAX = 700.0


class Summary(Struct, frozen=True):
    """The values of an arm, one for each key. variance: of the sample, unbiased; 0 for fewer than two keys."""

    keys: int
    mean: float
    variance: float


class Interval(Struct, frozen=True):
    """A difference to the control, variant − control, and where it lies with the wanted confidence."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0.0 or self.high < 0.0


class Outcome(StrEnum):
    NO_WINNER = "no winner yet"
    SPLIT_OFF = "no winner is shown: the split is off"
    WINNER = "winner"


class Conclusion(Struct, frozen=True):
    """What may be said of an experiment. winner: model_id of the arm with the better values; "" without one.

    intervals: by model_id of the variants. ratio_evidence: that the keys are not divided as the weights say; from
    RATIO_OFF_AT, something loses or doubles callers of one arm, and no difference means anything.
    """

    outcome: Outcome
    winner: str
    intervals: dict[str, Interval]
    ratio_evidence: float


def summary(values: Sequence[float]) -> Summary:
    if not values:
        return Summary(0, 0.0, 0.0)
    mean = sum(values) / len(values)
    squares = sum((value - mean) ** 2 for value in values)
    return Summary(len(values), mean, squares / (len(values) - 1) if len(values) > 1 else 0.0)


def interval(control: Summary, variant: Summary, alpha: float = ALPHA) -> Interval | None:
    """Return the always-valid interval of the difference (arXiv 2103.06476); None with fewer than two keys in an arm."""
    if min(control.keys, variant.keys) < 2:
        return None
    n = control.keys + variant.keys
    spread = n * (control.variance / control.keys + variant.variance / variant.keys)
    tuning = (-2 * log(alpha) + log(1 - 2 * log(alpha))) / TUNED_FOR_KEYS
    grown = n * tuning + 1
    half = sqrt(spread * 2 * grown / (n * n * tuning) * log(sqrt(grown) / alpha))
    difference = variant.mean - control.mean
    return Interval(difference, difference - half, difference + half)


def ratio_evidence(counts: Mapping[str, int], arms: Iterable[Arm]) -> float:
    """Return the evidence that distinct keys are not divided by the weights: 1 is none (Lindon & Malek 2011.03567).

    counts: distinct keys by model_id. It may be looked at any number of times: if all is well it reaches x with
    probability 1/x at most.
    """
    weighted = [arm for arm in arms if arm.weight > 0]
    total = sum(counts.get(arm.model_id, 0) for arm in weighted)
    evidence = lgamma(RATIO_PRIOR) - lgamma(RATIO_PRIOR + total)
    for arm in weighted:
        count, prior = counts.get(arm.model_id, 0), RATIO_PRIOR * arm.weight
        evidence += lgamma(prior + count) - lgamma(prior) - count * log(arm.weight)
    return exp(min(evidence, EXPONENT_MAX))


def without_past(values: Mapping[str, Sequence[tuple[float, float | None]]]) -> dict[str, list[float]]:
    """Take out of each key's value what the key's value from before the experiment foretold (CUPED).

    values: by arm, a value for each key and the one from before, or None. Returns the adjusted values. The expected
    differences stay the same; the variance shrinks by the squared correlation.
    """
    pairs = [(value, past) for arm in values.values() for value, past in arm if past is not None]
    mean = sum(past for _, past in pairs) / len(pairs) if pairs else 0.0
    level = sum(value for value, _ in pairs) / len(pairs) if pairs else 0.0
    spread = sum((past - mean) ** 2 for _, past in pairs)
    slope = sum((value - level) * (past - mean) for value, past in pairs) / spread if spread else 0.0
    return {
        arm: [value - slope * (past - mean) if past is not None else value for value, past in of_keys]
        for arm, of_keys in values.items()
    }


def conclude(
    arms: Sequence[Arm],
    counts: Mapping[str, int],
    values: Mapping[str, Sequence[float]],
    *,
    more_is_better: bool = True,
) -> Conclusion:
    """Say what an experiment shows. The first arm is the control.

    counts: distinct keys that met each arm, with or without feedback. values: by arm, one for each key with feedback.
    An arm wins if it is better than the control, or the control if all others are worse; the confidence of 95 % holds
    for all intervals together. Of several better arms, the one with the best mean is named.
    """
    control, *others = arms
    alpha = ALPHA / max(1, len(others))
    base = summary(values.get(control.model_id, ()))
    summaries = {arm.model_id: summary(values.get(arm.model_id, ())) for arm in others}
    found = {model_id: interval(base, variant, alpha) for model_id, variant in summaries.items()}
    intervals = {model_id: one for model_id, one in found.items() if one is not None}
    evidence = ratio_evidence(counts, arms)
    if evidence >= RATIO_OFF_AT:
        return Conclusion(Outcome.SPLIT_OFF, "", intervals, evidence)
    sign = 1.0 if more_is_better else -1.0
    clear = {model_id: sign * one.difference for model_id, one in intervals.items() if one.excludes_zero}
    best = max(clear, key=lambda model_id: clear[model_id], default="")
    if best and clear[best] > 0:
        return Conclusion(Outcome.WINNER, best, intervals, evidence)
    if others and len(clear) == len(others):
        return Conclusion(Outcome.WINNER, control.model_id, intervals, evidence)
    return Conclusion(Outcome.NO_WINNER, "", intervals, evidence)
