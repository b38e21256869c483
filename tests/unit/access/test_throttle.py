"""Keys are not found by trying."""

from __future__ import annotations

import pytest

from app.access.throttle import ATTEMPTS, WINDOW_SECONDS, FailedKeyThrottle
from app.errors import RateLimited


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_ten_wrong_keys_an_address_waits_for_its_minute_to_end() -> None:
    clock = Clock()
    wrong = FailedKeyThrottle(clock)
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


def test_the_same_wrong_key_counts_as_one_guess() -> None:
    wrong = FailedKeyThrottle(Clock())
    for _ in range(10 * ATTEMPTS):
        wrong.note("10.0.0.1", "of last year")
    wrong.check("10.0.0.1")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unknown", "unknown", True),
    ],
)
def test_all_addresses_of_an_ipv6_network_share_their_guesses(one: str, other: str, alike: bool) -> None:
    wrong = FailedKeyThrottle(Clock())
    for number in range(ATTEMPTS):
        wrong.note(one, f"guess-{number}")
    assert wrong.bounded(other) is alike


def test_a_key_in_use_stays_valid_only_in_the_network_that_used_it() -> None:
    wrong = FailedKeyThrottle(Clock())
    wrong.note_right("10.0.0.1", "right")
    for address in ("10.0.0.1", "10.0.0.2"):
        for number in range(ATTEMPTS):
            wrong.note(address, f"guess-{number}")
    wrong.check_caller("10.0.0.1", "right")
    for address, key in (("10.0.0.1", "other"), ("10.0.0.2", "right")):
        with pytest.raises(RateLimited):
            wrong.check_caller(address, key)
    with pytest.raises(RateLimited):
        wrong.check("10.0.0.1")


def test_addresses_are_forgotten() -> None:
    clock = Clock()
    wrong = FailedKeyThrottle(clock)
    for number in range(1000):
        wrong.note(f"10.0.{number >> 8}.{number & 255}", "guess")
    clock.now += WINDOW_SECONDS
    wrong.note("10.1.0.0", "guess")
    assert wrong.addresses == 1
