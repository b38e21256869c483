from __future__ import annotations

import pytest

from prism import requests
from prism.errors import ConnectionFailed, InvalidResponse, PrismError, RequestTimedOut, from_problem
from prism.retries import Retries

GET = requests.list_models()
UPLOAD = requests.deploy("m.onnx")
UNSENT = ConnectionFailed("refused", sent=False)
LOST = ConnectionFailed("reset", sent=True)


def http(status: int, retry_after_seconds: float | None = None) -> PrismError:
    return from_problem({}, status=status, retry_after_seconds=retry_after_seconds)


@pytest.mark.parametrize("failure", [UNSENT, LOST, http(408), http(429), http(502), http(503)])
def test_an_idempotent_call_is_retried(failure: PrismError) -> None:
    assert Retries().delay_seconds(GET, failure, 0) is not None


@pytest.mark.parametrize("failure", [http(400), http(401), http(404), http(409), http(422), InvalidResponse("?")])
def test_an_error_that_would_repeat_is_not_retried(failure: PrismError) -> None:
    assert Retries().delay_seconds(GET, failure, 0) is None


@pytest.mark.parametrize("status", [500, 504])
def test_a_request_that_may_have_taken_effect_is_not_retried(status: int) -> None:
    assert Retries().delay_seconds(requests.predict("iris", {"features": [[1]]}), http(status), 0) is None
    assert Retries().delay_seconds(GET, http(status, 1), 0) is None, "also where a Retry-After came with it"


@pytest.mark.parametrize("failure", [LOST, http(408), http(500), http(503), RequestTimedOut("late", sent=True)])
def test_an_upload_that_may_have_arrived_is_never_sent_again(failure: PrismError) -> None:
    assert Retries().delay_seconds(UPLOAD, failure, 0) is None


@pytest.mark.parametrize("failure", [UNSENT, http(429), RequestTimedOut("no connection", sent=False)])
def test_an_upload_that_surely_did_not_arrive_is_sent_again(failure: PrismError) -> None:
    assert Retries().delay_seconds(UPLOAD, failure, 0) is not None


def test_attempts_are_counted() -> None:
    assert Retries(count=2).delay_seconds(GET, UNSENT, 1) is not None
    assert Retries(count=2).delay_seconds(GET, UNSENT, 2) is None
    assert Retries(count=0).delay_seconds(GET, UNSENT, 0) is None


def test_the_delay_doubles_up_to_its_bound() -> None:
    retries = Retries(count=20, first_delay_seconds=1, longest_delay_seconds=10)
    for attempt, longest in [(0, 1), (1, 2), (2, 4), (10, 10)]:
        delay = retries.delay_seconds(GET, UNSENT, attempt)
        assert delay is not None
        assert longest * 0.75 <= delay <= longest


def test_retry_after_is_obeyed_unless_it_is_too_long_to_wait() -> None:
    assert Retries().delay_seconds(GET, http(429, 7), 0) == 7
    assert Retries(longest_delay_seconds=30).delay_seconds(GET, http(429, 3600), 0) is None
