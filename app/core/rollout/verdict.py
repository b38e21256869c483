"""Judges a share of bad answers while it is watched: may it still be within the limit, or is it certainly above?

Two sequential tests of the limit θ against J greater shares p_j run side by side, fed with the differences of counters:

    llr_j = k·ln(p_j/θ) + (m−k)·ln((1−p_j)/(1−θ))    for k bad of m new answers
    C_j = max(C_j, 0) + llr_j     above if max C_j ≥ ln(J·10⁶): finds what breaks late; ≤ 1 false in 10⁶ answers
    M_j = M_j + llr_j             above if mean exp M_j ≥ 1000: since the step began; false ≤ 0.1 %

The first is a CUSUM (Page 1954; E-detectors, arXiv 2203.03532), the second a mixture of likelihood ratios, which may be
looked at any number of times (Ville's inequality; arXiv 2205.14762). A window of the last hundred answers, looked at
again and again, would condemn nearly every healthy candidate.
"""

from __future__ import annotations

from math import exp, log

from msgspec import Struct

LEAST_LIMIT = 1e-4
CUSUM_FALSE_ONCE_IN = 1e6
MIXTURE_FALSE_ONCE_IN = 1000.0
ALL = 0.999
HALF = 0.5
EXPONENT_MAX = 700.0


class Alternative(Struct, frozen=True):
    """One share above the limit, and what speaks for it.

    cusum, mixture: natural logarithms of likelihood ratios. bad, answers: since the CUSUM was last below 0.
    """

    share: float
    cusum: float = 0.0
    mixture: float = 0.0
    bad: int = 0
    answers: int = 0

    def after(self, bad: int, answers: int, limit: float) -> Alternative:
        ratio = bad * log(self.share / limit) + (answers - bad) * log((1 - self.share) / (1 - limit))
        goes_on = self.cusum > 0
        return Alternative(
            self.share,
            ratio + (self.cusum if goes_on else 0.0),
            self.mixture + ratio,
            bad + (self.bad if goes_on else 0),
            answers + (self.answers if goes_on else 0),
        )


class Verdict(Struct, frozen=True):
    """The judgement of one share so far. limit: the share that is still allowed, from LEAST_LIMIT."""

    limit: float
    alternatives: tuple[Alternative, ...]

    def after(self, bad: int, answers: int) -> Verdict:
        """Return the judgement after some more answers. bad: how many of them were."""
        if not answers:
            return self
        return Verdict(self.limit, tuple(one.after(bad, answers, self.limit) for one in self.alternatives))

    def in_next_step(self) -> Verdict:
        """Return the judgement with the mixture begun anew; the CUSUM goes on, as it forgets by itself."""
        return Verdict(
            self.limit,
            tuple(Alternative(one.share, one.cusum, 0.0, one.bad, one.answers) for one in self.alternatives),
        )

    @property
    def is_above_late(self) -> bool:
        """Whether the CUSUM says that the share is above the limit: it may have become so just now."""
        if not self.alternatives:
            return False
        return self._worst.cusum >= log(len(self.alternatives) * CUSUM_FALSE_ONCE_IN)

    @property
    def is_above(self) -> bool:
        if not self.alternatives:
            return False
        weight = sum(exp(min(one.mixture, EXPONENT_MAX)) for one in self.alternatives) / len(self.alternatives)
        return weight >= MIXTURE_FALSE_ONCE_IN or self.is_above_late

    @property
    def recent(self) -> tuple[int, int]:
        """Bad answers, and answers, since the time from which the CUSUM speaks against the candidate most."""
        return (self._worst.bad, self._worst.answers) if self.alternatives else (0, 0)

    @property
    def _worst(self) -> Alternative:
        return max(self.alternatives, key=lambda one: one.cusum)


def verdict(limit: float) -> Verdict:
    """Return the judgement of a candidate that has not answered yet. A limit of ALL or more is never exceeded."""
    limit = max(limit, LEAST_LIMIT)
    shares = []
    share = 2 * limit
    while share < HALF:
        shares.append(share)
        share *= 2
    shares += [share for share in (HALF, ALL) if share > limit]
    return Verdict(limit, tuple(Alternative(share) for share in shares))
