from __future__ import annotations

import pytest
from scipy.stats import beta

from app.core.rollout.bounds import answers_needed, incomplete_beta, is_within, upper_bound


@pytest.mark.parametrize(("bad", "answers"), [(0, 149), (1, 236), (2, 313)])
def test_a_limit_of_two_percent_takes_so_many_answers(bad: int, answers: int) -> None:
    assert answers_needed(bad, 0.02) == answers
    assert is_within(bad, answers, 0.02)
    assert not is_within(bad, answers - 1, 0.02)


@pytest.mark.parametrize(
    ("bad", "answers"),
    [(0, 1), (0, 20), (1, 2), (3, 10), (9, 10), (50, 200), (199, 200), (20, 100_000), (40_000, 10**6)],
)
def test_the_bound_is_that_of_scipy(bad: int, answers: int) -> None:
    assert upper_bound(bad, answers) == pytest.approx(float(beta.ppf(0.95, bad + 1, answers - bad)), rel=1e-7)


@pytest.mark.parametrize("x", [0.0, 1e-4, 0.02, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (1.0, 149.0), (0.5, 0.5), (30.0, 2.0), (400.0, 9600.0)])
def test_the_incomplete_beta_function_is_that_of_scipy(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(float(beta.cdf(x, a, b)), rel=1e-9, abs=1e-300)


def test_nothing_is_within_a_limit_without_a_good_answer() -> None:
    assert upper_bound(0, 0) == upper_bound(5, 5) == 1.0
    assert not is_within(0, 0, 0.5)
