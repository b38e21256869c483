"""Keys and the sliding window, with times of our own."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from app.access.admission import Admission
from app.access.keys import Keys
from app.access.rate_limit import UNLIMITED, RateLimiter
from app.access.throttle import FailedKeyThrottle
from app.config.loading import load_settings
from app.errors import NotFound, RateLimited, Unauthorized


def test_without_keys_everyone_is_let_in_and_counted_by_address() -> None:
    assert Keys([]).caller("", "10.0.0.1") == "10.0.0.1"
    assert Keys([]).caller("whatever", "10.0.0.1") == "10.0.0.1"


def test_a_known_key_is_counted_as_itself_wherever_it_comes_from() -> None:
    keys = Keys(["one", "two"])
    assert keys.caller("one", "a") == keys.caller("one", "b") != keys.caller("two", "a")


@pytest.mark.parametrize("key", ["", "three", "on", "one "])
def test_an_unknown_key_is_refused(key: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        Keys(["one", "two"]).caller(key, "a")
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_an_admin_key_predicts_too_and_other_keys_are_not_admin_keys() -> None:
    keys = Keys(["api"], ["admin"])
    keys.add("key_1", digest("made"))
    assert len({keys.caller(key, "a") for key in ("api", "admin", "made")}) == 3
    assert [keys.is_admin(key) for key in ("admin", "api", "made", "")] == [True, False, False, False]
    assert keys.of_admins == "PRISM_ADMIN_KEYS"


def test_without_admin_keys_keys_of_the_settings_are_admin_keys_but_created_keys_are_not() -> None:
    keys = Keys(["api"])
    keys.add("key_1", digest("made"))
    assert [keys.is_admin(key) for key in ("api", "made", "")] == [True, False, False]
    assert keys.of_admins == "PRISM_API_KEYS"
    assert Keys([]).of_admins == ""


def test_a_made_key_is_valid_until_it_is_removed() -> None:
    keys = Keys(["api"])
    keys.add("key_1", digest("made"))
    keys.add("key_2", digest("another"))
    assert keys.caller("made", "a") == keys.caller("made", "b") != keys.caller("another", "a")
    keys.remove("key_1")
    with pytest.raises(Unauthorized):
        keys.caller("made", "a")
    assert keys.caller("another", "a")
    keys.remove("key_1")


def test_created_keys_do_not_close_an_open_server_and_are_rate_limited_separately() -> None:
    keys = Keys([])
    keys.add("key_1", digest("made"))
    assert not keys.required
    assert keys.caller("", "here") == keys.caller("unknown", "here") == "here" != keys.caller("made", "here")


def test_subscribers_are_notified_of_every_change_of_the_keys() -> None:
    keys, changes = Keys(["api"]), []
    keys.on_change(lambda: changes.append(keys.known("made") != ""))
    keys.add("key_1", digest("made"))
    keys.remove("key_1")
    assert changes == [True, False]


def test_a_listener_may_require_a_key_on_an_open_server() -> None:
    keys = Keys([])
    keys.add("key_1", digest("made"))
    surface = Admission(
        keys, lambda: True, lambda host: True, FailedKeyThrottle(), serves=lambda ref: ref == "iris", anonymous="public"
    )
    assert surface.admit("made", "a", "iris") == keys.caller("made", "b")
    with pytest.raises(Unauthorized):
        surface.admit("", "a", "iris")
    with pytest.raises(Unauthorized):
        surface.admit("", "a", "what is there is not told to who has no key")
    with pytest.raises(NotFound):
        surface.admit("made", "a", "secret")


def test_callers_without_a_key_share_one_limit_behind_a_tunnel() -> None:
    surface = Admission(Keys([]), lambda: False, lambda host: True, FailedKeyThrottle(), anonymous="public")
    assert surface.admit("", "10.0.0.1", "iris") == surface.admit("", "10.0.0.2", "iris") == "public"


@pytest.mark.parametrize(
    ("keys", "address", "is_direct", "caller", "on_page"),
    [
        ([], "127.0.0.1", True, UNLIMITED, UNLIMITED),
        ([], "::ffff:127.0.0.1", True, UNLIMITED, UNLIMITED),
        ([], "127.0.0.1", False, "127.0.0.1", "127.0.0.1"),  # a tunnel ends on this machine
        ([], "203.0.113.7", True, "203.0.113.7", "203.0.113.7"),
        ([], "unknown", True, "unknown", "unknown"),
        (["one"], "127.0.0.1", True, None, UNLIMITED),  # only admins reach a page where keys are set
        (["one"], "203.0.113.7", False, None, UNLIMITED),
    ],
)
def test_the_owner_and_admins_on_pages_are_not_limited_unless_the_limit_was_set(
    keys: list[str], address: str, is_direct: bool, caller: str | None, on_page: str
) -> None:
    known = Keys(keys)
    admission = Admission(known, lambda: known.required, lambda host: True, FailedKeyThrottle(), limits_owner=False)
    if caller is None:
        assert admission.caller("one", address, is_direct) == known.known("one") != UNLIMITED
    else:
        assert admission.caller("", address, is_direct) == caller
    assert admission.on_page("", address, is_direct) == on_page
    everyone = structs.replace(admission, limits_owner=True)
    assert everyone.on_page("", address, is_direct) == address


def test_who_is_not_limited_is_not_counted() -> None:
    limiter = RateLimiter(1, 60)
    assert [limiter.take(UNLIMITED, 0.0) for _ in range(3)] == [None] * 3
    assert limiter.callers == 0


def test_the_owner_is_limited_only_where_the_setting_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRISM_RATE_LIMIT_REQUESTS", raising=False)
    assert not load_settings().limits_owner
    monkeypatch.setenv("PRISM_RATE_LIMIT_REQUESTS", "120")
    assert load_settings().limits_owner


def test_the_request_past_the_limit_is_refused_and_says_when_to_come_back() -> None:
    limiter = RateLimiter(3, 60)
    allowances = [limiter.take("a", 600.0) for _ in range(3)]
    assert [one.remaining for one in allowances if one] == [2, 1, 0]
    with pytest.raises(RateLimited) as refused:
        limiter.take("a", 601.0)
    assert refused.value.headers["ratelimit-limit"] == "3"
    assert refused.value.headers["ratelimit-remaining"] == "0"
    wait = int(refused.value.headers["Retry-After"])
    with pytest.raises(RateLimited):
        limiter.take("a", 600.0 + wait / 2)
    assert limiter.take("a", 601.0 + wait) is not None


def test_callers_do_not_spend_each_other_s_allowance() -> None:
    limiter = RateLimiter(1, 60)
    limiter.take("a", 0.0)
    assert limiter.take("b", 0.0) is not None


def test_a_limit_of_zero_is_no_limit() -> None:
    assert RateLimiter(0, 60).take("a", 0.0) is None


@given(
    st.integers(1, 20),
    st.lists(st.floats(0, 5, allow_nan=False), max_size=200),
)
def test_no_window_admits_more_than_the_limit_and_retry_after_is_honoured(limit: int, gaps: list[float]) -> None:
    limiter = RateLimiter(limit, 10)
    now, let_in = 1000.0, []
    for gap in gaps:
        now += gap
        try:
            limiter.take("a", now)
            let_in.append(now)
        except RateLimited as refused:
            later = now + int(refused.headers["Retry-After"])
            fresh = RateLimiter(limit, 10)
            for earlier in let_in:
                fresh.take("a", earlier)
            assert fresh.take("a", later) is not None, "who waits as told is let in"
    for start in {int(time // 10) for time in let_in}:
        assert sum(int(time // 10) == start for time in let_in) <= limit


def test_callers_not_seen_for_two_windows_are_forgotten() -> None:
    limiter = RateLimiter(5, 1)
    for number in range(1000):
        limiter.take(f"address {number}", 100.0)
    limiter.take("still here", 110.0)
    assert limiter.callers == 1
