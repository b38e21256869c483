"""What an admin may break on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.chaos import chaos
from app.errors import BadInput


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "none was"),
        ({"hang": True, "kill": True}, "hang, kill was"),
        ({"errors": 1.2}, "at most 1; it was 1.2"),
        ({"errors": 0.0}, "above 0"),
        ({"errors": float("nan")}, "it was nan"),
        ({"latency_ms": 60_001.0}, "at most 60000 ms; it was 60001"),
        ({"hang": True, "seconds": 601.0}, "at most 600 s; it was 601"),
        ({"hang": True, "seconds": 0.0}, "above 0"),
    ],
)
def test_what_makes_no_sense_or_lasts_too_long_is_refused(wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        chaos(wanted.pop("seconds", 30.0), **wanted)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"errors": 0.2}, "20% of its answers are errors"),
        ({"latency_ms": 500.0}, "its answers take 500 ms more"),
        ({"hang": True}, "it answers nothing"),
    ],
)
def test_a_fault_is_told_in_plain_words(wanted: dict[str, Any], told: str) -> None:
    assert chaos(30.0, **wanted).told == told
