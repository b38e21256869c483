"""Bounds a share of bad answers from above, so that a step is passed on evidence and not for want of it."""

from __future__ import annotations

from math import exp, lgamma, log, log1p

CONFIDENCE = 0.95
TINY = 1e-300
PRECISION = 1e-15
TERMS_MAX = 10_000


def upper_bound(bad: int, answers: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided bound of Clopper and Pearson (1934) on the share of bad answers; 1 without a good one."""
    if bad >= answers:
        return 1.0
    low, high = bad / answers, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if incomplete_beta(bad + 1, answers - bad, middle) < confidence:
            low = middle
        else:
            high = middle
    return high


def is_within(bad: int, answers: int, limit: float) -> bool:
    """Return whether the bound on the share of bad answers is at most the limit."""
    return limit >= 1.0 or (bad < answers and incomplete_beta(bad + 1, answers - bad, limit) >= CONFIDENCE)


def answers_needed(bad: int, limit: float) -> int:
    """Return how many answers it takes, with this number of bad ones, until their share is bounded by the limit."""
    low, high = bad, bad + 1
    while not is_within(bad, high, limit):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_within(bad, middle, limit) else (middle, high)
    return high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    return front * _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Evaluate the fraction by Lentz's method, which needs a value other than 0 to begin with: 1, taken off again."""
    value, c, d = 1.0, 1.0, 0.0
    for term in range(TERMS_MAX):
        half = term // 2
        if term == 0:
            part = 1.0
        elif term % 2:
            part = -(a + half) * (a + b + half) * x / ((a + term - 1) * (a + term))
        else:
            part = half * (b - half) * x / ((a + term - 1) * (a + term))
        d = 1.0 / (1.0 + part * d or TINY)
        c = 1.0 + part / c or TINY
        value *= c * d
        if abs(1.0 - c * d) < PRECISION:
            break
    return value - 1.0
