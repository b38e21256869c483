"""Keys are not found by trying."""

from __future__ import annotations

import pytest

from app.api.wrong_keys import ATTEMPTS, WINDOW_SECONDS, WrongKeys
from app.errors import RateLimited


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_ten_wrong_keys_an_address_waits_for_its_minute_to_end() -> None:
    clock = Clock()
    wrong = WrongKeys(clock)
    for number in range(ATTEMPTS):
        wrong.check("10.0.0.1")
        wrong.note("10.0.0.1", f"guess-{number}")
    clock.now += 20
    with pytest.raises(RateLimited) as refused:
        wrong.check("10.0.0.1")
    assert refused.value.headers["Retry-After"] == "40"
    assert "10.0.0.1" in refused.value.detail
    wrong.check("10.0.0.2")
    clock.now += 40
    wrong.check("10.0.0.1")
    wrong.note("10.0.0.1", "guess")
    wrong.check("10.0.0.1")


def test_an_old_key_that_is_sent_again_and_again_is_one_guess() -> None:
    wrong = WrongKeys(Clock())
    for _ in range(10 * ATTEMPTS):
        wrong.note("10.0.0.1", "of last year")
    wrong.check("10.0.0.1")


def test_addresses_are_forgotten() -> None:
    clock = Clock()
    wrong = WrongKeys(clock)
    for number in range(1000):
        wrong.note(f"10.0.{number >> 8}.{number & 255}", "guess")
    clock.now += WINDOW_SECONDS
    wrong.note("10.1.0.0", "guess")
    assert wrong.addresses == 1
