from __future__ import annotations

from typing import Any

import pytest

from app.core.rollout.policy import canary_policy
from app.core.rollout.records import CanaryPolicy
from app.errors import BadInput

ASKED: dict[str, Any] = {"initial_percentage": 5, "threshold": 0.02, "bake_seconds": 30}


def test_without_steps_the_first_share_is_the_only_one() -> None:
    assert canary_policy(**ASKED) == CanaryPolicy()


def test_steps_may_name_the_first_share_again() -> None:
    assert canary_policy(**ASKED, steps=[5, 25, 100]).steps == (5.0, 25.0, 100.0)
    assert canary_policy(**ASKED, steps=[25, 100]).steps == (5.0, 25.0, 100.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"initial_percentage": 0}, "percent; it was 0"),
        ({"initial_percentage": 101}, "percent; it was 101"),
        ({"initial_percentage": float("nan")}, "percent; it was nan"),
        ({"steps": [5, -1]}, "percent; it was -1"),
        ({"steps": [50, 25]}, "must rise; they were 5, 50, 25"),
        ({"steps": [25, 25]}, "must rise"),
        ({"initial_percentage": 50, "steps": [25]}, "must rise; they were 50, 25"),
        ({"threshold": 1.5}, "from 0 to 1; it was 1.5"),
        ({"threshold": -0.1}, "from 0 to 1; it was -0.1"),
        ({"bake_seconds": -1}, "-1 was asked for"),
        ({"bake_seconds": 1e9}, "0 to 28,800 seconds"),
        ({"warm_seconds": -5}, "-5 was asked for"),
        ({"overdue_ms": 0}, "0 was given"),
    ],
)
def test_what_makes_no_sense_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        canary_policy(**{**ASKED, **wrong})
