from __future__ import annotations

import json
from typing import Any

import pytest

from prism import errors, responses
from prism.responses import Answer
from tests.unit.prism.small_server import document


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def test_a_model_is_read_with_unknown_fields_kept_in_its_document() -> None:
    model = responses.model(answer(document()))
    assert (model.ref, model.status, model.is_settled) == ("iris@1.0.0", "live", True)
    assert model.environment is not None
    assert model.environment.pins[0].evidence == "`_sklearn_version` is 1.5.2"
    assert model.document["not_known_to_this_sdk"] is True


def test_a_model_of_which_little_is_known_yet_is_read_all_the_same() -> None:
    early = {"model_id": "m1", "status": "received", "signature": None, "environment": None, "target": None}
    model = responses.model(answer(early))
    assert not model.is_settled
    assert model.failure() is None


def test_a_failed_model_gives_the_error_of_the_step_that_failed() -> None:
    problem = {"status": 422, "code": "probe_failed", "detail": "It said no."}
    failure = responses.model(answer(document("failed", error=problem))).failure()
    assert isinstance(failure, errors.ProbeFailedError)
    assert failure.model_id == "m1"


def test_a_failed_model_without_a_reason_is_still_an_error() -> None:
    assert isinstance(responses.model(answer(document("failed"))).failure(), errors.DeployFailedError)


def test_a_prediction_carries_request_id_and_timings() -> None:
    said = {"model": "iris", "version": "1.0.0", "model_id": "m1", "predictions": [1]}
    headers: dict[str, Any] = {
        "x_request_id": "r1",
        "server_timing": 'queue;dur=0.2, batch;desc="4", inference;desc=x;dur=3.5, bad;dur=x',
    }
    prediction = responses.prediction(answer(said, **headers))
    assert prediction.request_id == "r1"
    assert prediction.timings_ms == {"queue": 0.2, "inference": 3.5}


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b"\xff"])
def test_an_answer_that_is_not_prisms_says_so(body: bytes) -> None:
    with pytest.raises(errors.InvalidResponse, match="PRISM server"):
        responses.model(answer(body, content_type="text/html"))


def test_a_field_of_the_wrong_type_is_named() -> None:
    with pytest.raises(errors.InvalidResponse, match=r"\$\.name"):
        responses.model(answer({"model_id": "m1", "name": 3}))


def test_a_list_that_is_missing_is_named() -> None:
    with pytest.raises(errors.InvalidResponse, match="`models`"):
        responses.models(answer({}))


def test_an_html_error_of_a_proxy_keeps_its_status() -> None:
    error = responses.failure(answer(b"<h1>Bad gateway</h1>", 502))
    assert isinstance(error, errors.ServerError)
    assert "502" in error.detail


def test_a_redirect_names_the_address_to_use() -> None:
    assert "https://prism.example/" in responses.failure(answer(b"", 301, location="https://prism.example/")).detail


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("3", 3.0),
        ("-1", 0.0),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str, expected: float | None) -> None:
    assert responses.retry_after_seconds(value, now=10.0) == expected
