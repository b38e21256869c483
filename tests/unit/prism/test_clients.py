"""Both clients against transports that fail as told, and against a real small server."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from prism import AsyncPrism, Model, Prism, Timeouts, errors
from tests.unit.prism.small_server import SmallServer, document

Handler = Callable[[httpx2.Request], httpx2.Response]
MODELS = {"models": [document()]}


class Script:
    """Answers requests one after another as written; an exception is raised. The last answer stays."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)


def problem(status: int, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"status": status, "detail": "No."}, headers=named)


def client(handler: Handler, **options: Any) -> Prism:
    return Prism("http://prism.test", backoff_seconds=0, transport=httpx2.MockTransport(handler), **options)


def async_client(handler: Handler, **options: Any) -> AsyncPrism:
    return AsyncPrism("http://prism.test", backoff_seconds=0, transport=httpx2.MockTransport(handler), **options)


def test_a_passing_failure_is_retried_until_it_has_passed() -> None:
    script = Script(httpx2.ConnectError("refused"), problem(503, Retry_After="0"), httpx2.Response(200, json=MODELS))
    with client(script) as prism:
        assert [model.name for model in prism.models.list()] == ["iris"]
    assert len(script.requests) == 3


async def test_the_asynchronous_client_retries_alike() -> None:
    script = Script(httpx2.ConnectError("refused"), problem(503, Retry_After="0"), httpx2.Response(200, json=MODELS))
    async with async_client(script) as prism:
        assert [model.name for model in await prism.models.list()] == ["iris"]
    assert len(script.requests) == 3


def test_a_lasting_failure_is_raised_after_the_last_try() -> None:
    script = Script(problem(503, Retry_After="0", X_Request_ID="r9"))
    with client(script, max_retries=3) as prism, pytest.raises(errors.UnavailableError) as raised:
        prism.models.list()
    assert len(script.requests) == 4
    assert raised.value.retry_after_seconds == 0
    assert raised.value.request_id == "r9"


def test_an_upload_whose_answer_is_lost_is_not_sent_again(model_file: Path) -> None:
    script = Script(httpx2.ReadError("reset"))
    with client(script) as prism, pytest.raises(errors.ConnectionFailed, match="lost before the answer") as raised:
        prism.deploy(model_file)
    assert raised.value.sent
    assert len(script.requests) == 1


async def test_an_asynchronous_upload_whose_answer_is_lost_is_not_sent_again(model_file: Path) -> None:
    script = Script(httpx2.ReadError("reset"))
    async with async_client(script) as prism:
        with pytest.raises(errors.ConnectionFailed, match="lost before the answer"):
            await prism.deploy(model_file)
    assert len(script.requests) == 1


TRANSPORT_ERRORS = [
    kind
    for kind in vars(httpx2).values()
    if isinstance(kind, type) and issubclass(kind, httpx2.RequestError) and kind is not httpx2.SSEError
]


@pytest.mark.parametrize("kind", TRANSPORT_ERRORS, ids=lambda kind: kind.__name__)
def test_no_error_of_the_transport_gets_through_untranslated(kind: type[httpx2.RequestError]) -> None:
    with client(Script(kind("broken")), max_retries=0) as prism, pytest.raises(errors.PrismError):
        prism.health()


def test_the_key_and_each_timeout_go_with_the_request() -> None:
    script = Script(httpx2.Response(200, json={"model": "a", "version": "1", "model_id": "m", "predictions": []}))
    with client(script, api_key=" secret\n", timeouts=Timeouts(connect_seconds=1, predict_seconds=7)) as prism:
        prism.predict("a", {"input": [1]})
    assert script.requests[0].headers["x-api-key"] == "secret"
    timeout = script.requests[0].extensions["timeout"]
    assert (timeout["connect"], timeout["read"]) == (1, 7)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://a:port"])
def test_an_address_that_is_no_http_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="http"):
        Prism(url)


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    with pytest.raises(errors.InvalidRequest) as raised:
        Prism(api_key="sec\nret")
    assert "sec" not in str(raised.value)


def test_where_nobody_listens_the_error_says_how_to_start_a_server(closed_port: int) -> None:
    with Prism(f"http://127.0.0.1:{closed_port}", max_retries=0) as prism:
        with pytest.raises(errors.ConnectionFailed, match="prism run") as raised:
            prism.health()
        assert not raised.value.sent


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: SmallServer, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port}")
    with Prism(server.url) as prism:
        assert prism.health().status == "ok"


def test_a_deployment_reports_each_state_and_returns_the_live_model(server: SmallServer, model_file: Path) -> None:
    server.states = [document("building"), document("building"), document("probing"), document("live")]
    seen: list[str] = []
    with Prism(server.url) as prism:
        model = prism.deploy(model_file, name="iris", on_status=lambda model: seen.append(model.status))
    assert isinstance(model, Model)
    assert model.status == "live"
    assert seen == ["received", "building", "probing", "live"]
    assert server.requests[0] == ("POST", "/models/upload-and-run?wait=false")
    assert b'name="model_name"\r\n\r\niris' in server.upload


async def test_an_asynchronous_deployment_that_fails_raises_what_failed(server: SmallServer, model_file: Path) -> None:
    server.states = [document("building"), document("failed", error={"code": "build_failed", "detail": "No wheel."})]
    async with AsyncPrism(server.url) as prism:
        with pytest.raises(errors.BuildFailedError, match="No wheel") as raised:
            await prism.upload(model_file)
    assert raised.value.model_id == "m1"
    assert server.requests[0] == ("POST", "/models/upload?wait=false")


def test_a_deployment_that_takes_too_long_says_that_it_goes_on(server: SmallServer, model_file: Path) -> None:
    server.states = [document("building")]
    with Prism(server.url, timeouts=Timeouts(deploy_seconds=0.1)) as prism:
        with pytest.raises(errors.RequestTimedOut, match=r"still (received|building) .*prism models show iris@1\.0\.0"):
            prism.deploy(model_file)


BIG_BYTES = 300_000_000


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """Sparse: it takes no room on the disk."""
    path = tmp_path / "big.joblib"
    with path.open("wb") as file:
        file.truncate(BIG_BYTES)
    return path


def test_an_upload_streams_from_disk(server: SmallServer, big_file: Path) -> None:
    told: list[tuple[int, int]] = []
    with Prism(server.url) as prism:
        tracemalloc.start()
        try:
            prism.deploy(big_file, on_bytes=lambda sent, total: told.append((sent, total)))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak_bytes < 10_000_000
    assert told[-1] == (BIG_BYTES, BIG_BYTES)
    assert server.received[0] > BIG_BYTES


def test_logs_are_followed_as_they_come(server: SmallServer) -> None:
    with Prism(server.url) as prism:
        lines: Iterator[str] = prism.models.follow_logs("iris", tail=10, kind="build")
        assert list(lines) == ["line 1", "line 2", "line 3"]
    assert server.requests[0][1] == "/models/iris/logs?tail=10&kind=build&follow=true"


async def test_logs_are_followed_asynchronously(server: SmallServer) -> None:
    async with AsyncPrism(server.url) as prism:
        lines: AsyncIterator[str] = prism.models.follow_logs("iris")
        assert [line async for line in lines] == ["line 1", "line 2", "line 3"]


def test_a_log_that_is_cut_off_goes_on_behind_its_last_line(server: SmallServer) -> None:
    server.cuts = [1, 0, 1]
    with Prism(server.url, backoff_seconds=0.001) as prism:
        assert list(prism.models.follow_logs("iris", tail=10)) == ["line 1", "line 2", "line 3"]
    asked = [path.partition("follow=true")[2] for _, path in server.requests]
    assert asked == ["", "&after=1", "&after=1", "&after=2"]


async def test_a_log_that_is_cut_off_goes_on_asynchronously(server: SmallServer) -> None:
    server.cuts = [0, 2, 0]
    async with AsyncPrism(server.url, backoff_seconds=0.001) as prism:
        assert [line async for line in prism.models.follow_logs("iris")] == ["line 1", "line 2", "line 3"]


def test_a_log_that_never_comes_any_further_is_given_up(server: SmallServer) -> None:
    server.cuts = [1, *([0] * 50)]
    with Prism(server.url, backoff_seconds=0.001) as prism:
        lines = prism.models.follow_logs("iris")
        assert next(lines) == "line 1"
        with pytest.raises(errors.ConnectionFailed, match="lost"):
            next(lines)
    assert len(server.requests) == 7


def test_following_the_logs_of_an_unknown_model_raises_the_servers_error(server: SmallServer) -> None:
    with Prism(server.url) as prism, pytest.raises(errors.NotFoundError, match="nobody"):
        next(prism.models.follow_logs("nobody"))


async def test_every_call_of_the_asynchronous_client_reads_what_the_synchronous_one_does(server: SmallServer) -> None:
    with Prism(server.url) as one:
        async with AsyncPrism(server.url) as other:
            assert one.models.get("iris") == await other.models.get("iris")
            assert one.models.logs("iris") == await other.models.logs("iris")
            assert one.models.rollback("m1") == await other.models.rollback("m1")
            assert one.models.stop("iris") == await other.models.stop("iris")
            assert one.models.delete("m1") == await other.models.delete("m1")
            assert one.health() == await other.health()
            body = {"input": [1]}
            first = one.predict("iris", body, probabilities=True)
            assert first == await other.predict("iris", body, probabilities=True)
            assert first.classes == ["setosa", "other"]


def test_both_clients_offer_the_same() -> None:
    def offered(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert offered(Prism) == offered(AsyncPrism)
    with Prism() as one:
        assert offered(type(one.models)) == offered(type(AsyncPrism().models))
