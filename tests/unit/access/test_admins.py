from __future__ import annotations

import pytest

from app.access.admins import AdminCheck
from app.access.keys import Keys
from app.access.throttle import ATTEMPTS, FailedKeyThrottle
from app.errors import Forbidden, PrismError, RateLimited, Unauthorized

HERE, HINT = "127.0.0.1", "Send a key."


def check_of(api_keys: list[str], admin_keys: list[str]) -> AdminCheck:
    return AdminCheck(Keys(api_keys, admin_keys), FailedKeyThrottle(lambda: 0.0))


def test_everyone_is_an_admin_where_no_key_is_set() -> None:
    check_of([], []).check("", HERE, HINT)


def test_api_keys_are_those_of_admins_as_long_as_there_are_no_others() -> None:
    check_of(["api"], []).check("api", HERE, HINT)


@pytest.mark.parametrize(
    ("key", "error", "detail"),
    [
        ("api", Forbidden, "This API key may only predict and read about models."),
        ("guess", Unauthorized, "The API key is not valid for this server."),
        ("", Unauthorized, "No admin key was sent."),
    ],
)
def test_others_are_told_why_not(key: str, error: type[PrismError], detail: str) -> None:
    with pytest.raises(error) as refused:
        check_of(["api"], ["admin"]).check(key, HERE, HINT)
    assert (refused.value.detail, refused.value.hint) == (detail, HINT)


def test_any_valid_key_opens_what_only_reads() -> None:
    check = check_of(["api"], ["admin"])
    check.check("api", HERE, HINT, any_key=True)
    with pytest.raises(Unauthorized):
        check.check("guess", HERE, HINT, any_key=True)


def test_after_too_many_guesses_no_key_is_looked_at_and_no_key_is_no_guess() -> None:
    check = check_of([], ["admin"])
    for number in range(ATTEMPTS):
        for key in ("", f"guess {number}"):
            with pytest.raises(Unauthorized):
                check.check(key, HERE, HINT)
    with pytest.raises(RateLimited):
        check.check("admin", HERE, HINT)
    check.check("admin", "192.0.2.1", HINT)
