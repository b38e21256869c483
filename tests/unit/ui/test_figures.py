from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.ui.figures import ago, ahead, counted, duration, memory, milliseconds, percent, significant, size


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0 B"), (999, "999 B"), (1149, "1.1 kB"), (99_960, "100 kB"), (999_600, "1.0 MB"), (4.3e9, "4.3 GB")],
)
def test_a_size_is_shown_in_the_unit_that_gives_a_small_number(value: float, told: str) -> None:
    assert size(value) == told


@pytest.mark.parametrize(("value", "told"), [(76 << 20, "76 MiB"), (2 << 30, "2 GiB"), (3 << 29, "1.5 GiB")])
def test_memory_is_told_in_the_units_of_its_limits(value: int, told: str) -> None:
    assert memory(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), (0.42, "0.42 ms"), (8.13, "8.1 ms"), (239.6, "240 ms"), (1300, "1.3 s"), (125_000, "2 min 5 s")],
)
def test_a_latency_has_two_significant_digits(value: float | None, told: str) -> None:
    assert milliseconds(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.42, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_a_duration_has_its_two_largest_units(value: float, told: str) -> None:
    assert duration(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0"), (0.001, "<0.01"), (0.42, "0.42"), (4.2, "4.2"), (42, "42"), (4200, "4,200")]
)
def test_a_rate_is_short(value: float, told: str) -> None:
    assert significant(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0%"), (0.0004, "<0.1%"), (0.025, "2.5%"), (0.9996, ">99.9%"), (1, "100%")]
)
def test_a_partial_share_is_never_rounded_to_all_or_none(value: float, told: str) -> None:
    assert percent(value) == told


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("", ""),
        ("2026-01-02T12:00:00Z", "just now"),
        ("2026-01-02T11:59:20.5Z", "40 s ago"),
        ("2026-01-02T09:00:00+00:00", "3 h ago"),
        ("2026-01-02T12:00:09Z", "just now"),
    ],
)
def test_a_time_is_shown_relative_to_now(then: str, told: str) -> None:
    assert ago(then, datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)) == told


def test_counts_use_the_singular_for_one() -> None:
    assert [counted(1, "row"), counted(2, "row"), counted(0, "entry", "entries")] == ["1 row", "2 rows", "0 entries"]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("2026-01-02T12:59:30Z", "59 min"),
        ("2026-01-02T15:10:00Z", "3 h"),
        ("2026-01-02T12:00:20Z", "less than a minute"),
        ("2026-01-02T11:00:00Z", "less than a minute"),
    ],
)
def test_the_time_until_something_has_one_unit(then: str, told: str) -> None:
    assert ahead(then, datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)) == told
