"""The SDK reads a stream line by line, tries again only before the first item, and raises what ended it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from prism import AsyncPrism, Prism, errors
from prism.streaming import ItemReader

Handler = Callable[[httpx2.Request], httpx2.Response]
PROBLEM = {"status": 500, "code": "model_error", "detail": "It broke.", "hint": "", "request_id": "r1"}
LINES = {"Content-Type": "application/x-ndjson"}


def client(handler: Handler, **options: Any) -> Prism:
    return Prism("http://prism.test", backoff_seconds=0, transport=httpx2.MockTransport(handler), **options)


def said(*documents: Any) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def answering(*answers: httpx2.Response) -> tuple[Handler, list[httpx2.Request]]:
    """One after another; the requests as they came."""
    requests: list[httpx2.Request] = []
    left = iter(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return next(left)

    return answer, requests


def stream(*documents: Any) -> httpx2.Response:
    return httpx2.Response(200, headers=LINES, content=said(*documents))


WHOLE = ({"item": 1}, {"item": {"a": None}}, {"end": {"items": 2}})


def test_the_request_asks_for_lines_of_json() -> None:
    handler, requests = answering(stream(*WHOLE))
    with client(handler, api_key="mine") as prism:
        assert list(prism.stream("m", {"x": [1]}, probabilities=True)) == [1, {"a": None}]
    (request,) = requests
    assert request.url.path == "/models/m/predict"
    assert request.url.params["probabilities"] == "true"
    assert request.headers["accept"] == "application/x-ndjson"
    assert request.headers["x-api-key"] == "mine"
    assert json.loads(request.content) == {"x": [1]}


def test_nothing_is_sent_before_the_first_item_is_asked_for() -> None:
    handler, requests = answering(stream(*WHOLE))
    with client(handler) as prism:
        items = prism.stream("m", {})
        assert not requests
        assert next(items) == 1
        assert len(requests) == 1


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_are_read_however_they_are_cut(size: int) -> None:
    text = '{"item":"é\u2028\x85"}\n{"item":2}\n{"end":{"items":2}}\n'.encode()
    reader = ItemReader()
    items = [item for at in range(0, len(text), size) for item in reader.feed(text[at : at + size])]
    assert items == ["é\u2028\x85", 2]
    assert reader.end == {"items": 2}


def test_a_temporary_refusal_is_retried_before_the_first_item() -> None:
    refusal = httpx2.Response(503, headers={"Retry-After": "0"}, json={**PROBLEM, "status": 503, "code": "overloaded"})
    handler, requests = answering(refusal, stream(*WHOLE))
    with client(handler) as prism:
        assert len(list(prism.stream("m", {}))) == 2
    assert len(requests) == 2
    handler, requests = answering(refusal)
    with client(handler, max_retries=0) as prism, pytest.raises(errors.OverloadedError):
        list(prism.stream("m", {}))


def test_a_failure_after_an_item_is_raised_and_never_tried_again() -> None:
    handler, requests = answering(stream({"item": 1}, {"error": PROBLEM}))
    with client(handler) as prism:
        items = prism.stream("m", {})
        assert next(items) == 1
        with pytest.raises(errors.ServerError, match="It broke") as failed:
            next(items)
    assert (failed.value.code, failed.value.request_id) == ("model_error", "r1")
    assert len(requests) == 1


def test_a_stream_that_is_cut_off_is_told_from_one_that_ended() -> None:
    handler, requests = answering(stream({"item": 1}))
    with client(handler) as prism:
        items = prism.stream("m", {})
        assert next(items) == 1
        with pytest.raises(errors.ConnectionFailed, match="in the middle"):
            next(items)
    assert len(requests) == 1


@pytest.mark.parametrize(
    "answer",
    [httpx2.Response(200, json={"predictions": [1]}), httpx2.Response(200, headers=LINES, content=b"<html>\n")],
)
def test_an_answer_that_is_not_a_stream_is_an_error(answer: httpx2.Response) -> None:
    handler, _ = answering(answer)
    with client(handler) as prism, pytest.raises(errors.InvalidResponse):
        list(prism.stream("m", {}))


class Cut(httpx2.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield said({"item": 1})
        raise httpx2.ReadError("cut")


def test_an_error_of_the_transport_is_translated() -> None:
    handler, _ = answering(httpx2.Response(200, headers=LINES, stream=Cut()))
    with client(handler) as prism:
        items = prism.stream("m", {})
        assert next(items) == 1
        with pytest.raises(errors.ConnectionFailed, match="cut"):
            next(items)


async def test_the_asynchronous_client_does_the_same() -> None:
    refusal = httpx2.Response(503, headers={"Retry-After": "0"}, json={**PROBLEM, "status": 503, "code": "overloaded"})
    handler, requests = answering(refusal, stream({"item": 1}, {"error": PROBLEM}))
    transport = httpx2.MockTransport(handler)
    async with AsyncPrism("http://prism.test", backoff_seconds=0, transport=transport) as prism:
        items = prism.stream("m", {})
        assert await anext(items) == 1
        with pytest.raises(errors.ServerError, match="It broke"):
            await anext(items)
    assert len(requests) == 2
