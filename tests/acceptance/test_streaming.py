"""A model that yields, asked over HTTP, by the SDK and from the command line: items come as they are made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from prism import AsyncPrism, Prism, errors
from tests.acceptance.conftest import StartServer
from tests.acceptance.served import serving
from tests.acceptance.server import CHECKOUT, Server, problem, wait_for
from tests.acceptance.streaming_lab import LINES, SECONDS, WORDS, Place, command, in_the_middle, open_streams, zipped

TOTAL = "import numpy\nclass Model:\n    def predict(self, rows):\n        return [sum(row) for row in rows]\n"
EVENTS = "text/event-stream"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET="process") as server:
        server.deploy(zipped(folder, "words", WORDS))
        server.deploy(zipped(folder, "total", TOTAL), expected_input_json='{"features": [[1, 2]]}')
        yield server


@pytest.fixture
def place(server: Server) -> Place:
    """Without any file of an earlier test."""
    wait_for(lambda: open_streams(server) == 0, SECONDS, "the streams of the last test to end")
    place = Place(server)
    place.remove("go", "waits", "closed", "made")
    return place


def ask(server: Server, body: Any, accept: str = LINES, ref: str = "words", **headers: str) -> httpx2.Response:
    return server.http.post(f"/models/{ref}/predict", json=body, headers={"Accept": accept, **headers})


def opened(server: Server, body: Any, accept: str = LINES) -> Any:
    return server.http.stream("POST", "/models/words/predict", json=body, headers={"Accept": accept})


def documents(lines: list[str]) -> list[Any]:
    return [json.loads(line) for line in lines]


def test_lines_come_one_by_one_as_the_model_makes_them(server: Server, place: Place) -> None:
    with opened(server, {"words": "a wait b"}) as response:
        assert response.headers["content-type"] == LINES
        lines = response.iter_lines()
        in_the_middle(place, lines, '{"item":"a"}')
        *items, end = documents(list(lines))
    assert items == [{"item": "wait"}, {"item": "b"}]
    model = server.model("words")
    assert end == {"end": {"model": "words", "version": "1.0.0", "model_id": model["model_id"], "items": 3}}


def test_events_come_one_by_one_as_the_model_makes_them(server: Server, place: Place) -> None:
    with opened(server, {"words": "a wait b"}, EVENTS) as response:
        assert response.headers["content-type"] == f"{EVENTS}; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-model-version"] == "1.0.0"
        events = iter(httpx2.EventSource(response))
        first = next(events)
        assert (first.event, first.id, first.data) == ("message", "0", '"a"')
        in_the_middle(place, iter(["go"]), "go")
        *items, end = list(events)
    assert [(one.event, one.id, one.data) for one in items] == [("message", "1", '"wait"'), ("message", "2", '"b"')]
    assert end.event == "end"
    assert json.loads(end.data)["items"] == 3


@pytest.mark.docker
def test_a_container_streams_as_well(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="docker")
    server.deploy(zipped(tmp_path, "words", WORDS))
    place = Place(server)
    place.remove("closed")
    with opened(server, {"words": "a wait b"}) as response:
        lines = response.iter_lines()
        in_the_middle(place, lines, '{"item":"a"}')
        assert len(list(lines)) == 3
    wait_for(lambda: place.has("closed"), SECONDS, "the generator to be closed")
    place.remove("closed")
    with opened(server, {"words": "a", "numbers": 1_000_000}) as response:
        lines = response.iter_lines()
        next(lines)
        assert not place.has("closed")
    wait_for(lambda: place.has("closed"), SECONDS, "the generator of a client that has gone to be closed")
    assert server.predict("words", {"words": "a b"}).json()["predictions"] == ["a", "b"]


def test_without_asking_for_a_stream_all_comes_in_one_list(server: Server) -> None:
    for accept in ("application/json", "*/*", "application/json, text/event-stream;q=0.5"):
        answer = ask(server, {"words": "a b c"}, accept)
        assert answer.json()["predictions"] == ["a", "b", "c"]


def test_a_model_that_does_not_yield_streams_its_rows(server: Server) -> None:
    answer = ask(server, {"features": [[1, 2], [3, 4]]}, ref="total")
    assert documents(answer.text.splitlines())[:2] == [{"item": 3}, {"item": 7}]


@pytest.mark.parametrize("accept", [EVENTS, LINES])
def test_a_failure_before_the_first_item_is_an_ordinary_problem(server: Server, accept: str) -> None:
    assert problem(ask(server, {"words": "refuse"}, accept))["status"] == 422
    assert problem(ask(server, {"words": "fail"}, accept))["code"] == "model_error"
    assert problem(ask(server, {"other": 1}, accept))["status"] == 422
    assert problem(ask(server, {}, accept, ref="nobody"))["status"] == 404
    refused = server.http.post("/models/words/predict", content=b"x", headers={"Accept": accept, "Content-Type": "a/b"})
    assert problem(refused)["status"] == 415
    refused = server.http.post("/models/words/predict", content=b"[", headers={"Accept": accept})
    assert problem(refused)["code"] == "not_json"
    large = ask(server, {"words": "a" * (17 << 20)}, accept)
    assert problem(large)["status"] == 413


def test_a_failure_in_the_middle_ends_the_stream_with_its_problem(server: Server) -> None:
    answer = ask(server, {"words": "a b fail"}, EVENTS, **{"X-Request-ID": "mine"})
    assert answer.status_code == 200
    *items, last = answer.text.strip().split("\n\n")
    assert items == ['id: 0\ndata: "a"', 'id: 1\ndata: "b"']
    name, data = last.split("\n")
    told = json.loads(data.removeprefix("data: "))
    assert (name, told["code"], told["status"], told["request_id"]) == ("event: error", "model_error", 500, "mine")
    assert answer.headers["x-request-id"] == "mine"
    *lines, last = documents(ask(server, {"words": "a refuse"}).text.splitlines())
    assert lines == [{"item": "a"}]
    assert (last["error"]["code"], last["error"]["status"]) == ("prediction_failed", 422)


def test_a_client_that_has_gone_closes_the_generator(server: Server, place: Place) -> None:
    with opened(server, {"words": "a", "numbers": 1_000_000}) as response:
        lines = response.iter_lines()
        next(lines)
        assert open_streams(server) == 1
        assert not place.has("closed")
    wait_for(lambda: place.has("closed"), SECONDS, "the generator to be closed")
    wait_for(lambda: open_streams(server) == 0, SECONDS, "the stream to be forgotten")


def test_a_client_that_leaves_while_the_first_item_is_made_closes_it_too(server: Server, place: Place) -> None:
    body = json.dumps({"words": "wait b"})
    head = f"POST /models/words/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {LINES}\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"{head}\r\n\r\n{body}".encode())
        wait_for(lambda: place.has("waits"), SECONDS, "the model to wait")
    wait_for(lambda: open_streams(server) == 0, SECONDS, "the stream to be forgotten")
    place.make("go")
    wait_for(lambda: place.has("closed"), SECONDS, "the generator to be closed")


def memory(server: Server) -> int:
    """Of the gateway and its replicas, in bytes."""
    assert server.process is not None
    return sum(one.memory_info().rss for one in [psutil.Process(server.process.pid), *server.replica_processes()])


def test_a_slow_client_makes_nothing_grow_and_keeps_nobody_waiting(server: Server, place: Place) -> None:
    numbers = 100_000  # of 4 KiB: 400 MB, if anything held them
    before = memory(server)
    with opened(server, {"words": "a", "numbers": numbers}) as response:
        data = response.iter_bytes()
        next(data)
        seen: list[str] = []

        def stands_still() -> bool:
            seen.append(place.read("made") if place.has("made") else "")
            return len(seen) > 25 and seen[-25] == seen[-1] != ""

        wait_for(stands_still, SECONDS, "the model to wait for its client")
        assert int(seen[-1]) < numbers / 5
        assert memory(server) - before < 32 << 20
        assert server.predict("words", {"words": "c d"}).json()["predictions"] == ["c", "d"]
        assert documents(ask(server, {"words": "e"}).text.splitlines())[0] == {"item": "e"}
        place.remove("closed")
    wait_for(lambda: place.has("closed"), SECONDS, "the generator to be closed")


def test_many_streams_at_a_time_go_on_side_by_side(server: Server, place: Place) -> None:
    counts: list[int] = []

    def read() -> None:
        answer = httpx2.post(
            f"{server.url}/models/words/predict",
            json={"words": "", "numbers": 200},
            headers={"Accept": LINES},
            timeout=SECONDS,
            trust_env=False,
        )
        counts.append(len(answer.text.splitlines()))

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert counts == [201] * 8


def test_a_restart_lets_a_stream_come_to_its_end(server: Server, place: Place) -> None:
    with opened(server, {"words": "a wait b"}) as response:
        lines = response.iter_lines()
        assert next(lines) == '{"item":"a"}'
        wait_for(lambda: place.has("waits"), SECONDS, "the model to wait")
        path = place._path("go")
        first = server.model("words")["replica"]["id"]
        restarting = threading.Thread(
            target=lambda: httpx2.post(f"{server.url}/models/words/restart", timeout=120, trust_env=False)
        )
        restarting.start()
        wait_for(lambda: server.model("words")["replica"]["id"] != first, SECONDS, "the new replica")
        assert server.predict("words", {"words": "new"}).json()["predictions"] == ["new"]
        path.touch()
        assert len(documents(list(lines))) == 3
        restarting.join()


def test_a_stream_that_outlasts_a_stop_ends_with_an_error(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_DRAIN_TIMEOUT_SECONDS=1, PRISM_MAX_STREAMS=1)
    server.deploy(zipped(tmp_path, "words", WORDS))
    other = httpx2.Client(base_url=server.url, timeout=120, trust_env=False)
    with other, opened(server, {"words": "a wait b"}, EVENTS) as response:
        events = iter(httpx2.EventSource(response))
        assert next(events).data == '"a"'
        refused = other.post("/models/words/predict", json={"words": "a"}, headers={"Accept": EVENTS})
        assert problem(refused)["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) > 0
        assert other.post("/models/words/stop").status_code == 200
        (last,) = events
        assert (last.event, json.loads(last.data)["status"]) == ("error", 503)


def test_the_servers_end_ends_streams_at_once(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process")
    server.deploy(zipped(tmp_path, "words", WORDS))
    with opened(server, {"words": "a wait b"}, EVENTS) as response:
        events = iter(httpx2.EventSource(response))
        assert next(events).data == '"a"'
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        (last,) = events
        assert (last.event, json.loads(last.data)["code"]) == ("error", "unavailable")
    server.process.wait(SECONDS)
    assert "Traceback" not in server.log()


def test_the_servers_end_does_not_wait_for_who_takes_nothing(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_DRAIN_TIMEOUT_SECONDS=1)
    server.deploy(zipped(tmp_path, "words", WORDS))
    with opened(server, {"words": "", "numbers": 1_000_000}) as response:
        data = response.iter_bytes()
        next(data)
        wait_for(lambda: server.http.get("/health").status_code == 200, SECONDS, "an answer beside it")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(SECONDS)
    assert not server.replica_processes()
    assert "Traceback" not in server.log()


def test_a_replica_that_dies_ends_its_stream_with_an_error(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process")
    server.deploy(zipped(tmp_path, "words", WORDS))
    with opened(server, {"words": "a wait b"}) as response:
        lines = response.iter_lines()
        assert next(lines) == '{"item":"a"}'
        for process in server.replica_processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # it went with its parent
                process.kill()
        (last,) = documents(list(lines))
        assert last["error"]["code"] == "replica_unavailable"


def test_an_item_that_takes_too_long_ends_the_stream(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_PREDICT_TIMEOUT_SECONDS=8)
    server.deploy(zipped(tmp_path, "words", WORDS))
    *items, last = documents(ask(server, {"words": "a wait b"}).text.splitlines())
    assert items == [{"item": "a"}]
    assert (last["error"]["status"], last["error"]["code"]) == (504, "replica_timeout")


def test_keys_and_limits_are_those_of_a_prediction(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_ADMIN_KEYS="admin", PRISM_RATE_LIMIT_REQUESTS=3)
    server.http.headers["X-API-Key"] = "admin"
    server.deploy(zipped(tmp_path, "words", WORDS))
    key = server.http.post("/keys", json={"name": "ann"}).json()
    place = Place(server)
    with server.http.stream(
        "POST",
        "/models/words/predict",
        json={"words": "a wait b"},
        headers={"Accept": LINES, "X-API-Key": key["key"]},
    ) as response:
        assert response.headers["ratelimit-remaining"] == "2"
        lines = response.iter_lines()
        assert next(lines) == '{"item":"a"}'
        assert server.http.delete(f"/keys/{key['id']}").status_code == 200
        in_the_middle(place, iter(["go"]), "go")
        assert len(list(lines)) == 3  # who was let in is answered
    for wrong in (key["key"], "never was one"):
        assert problem(ask(server, {"words": "a"}, **{"X-API-Key": wrong}))["status"] == 401
    answers = [ask(server, {"words": "a"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    refused = server.http.post("/v2/models/words/generate_stream", json={"words": "a"})
    assert refused.status_code == 429
    assert "error" in refused.json()


def test_the_generate_extension_answers_in_its_own_form(server: Server, place: Place) -> None:
    names = {"model_name": "words", "model_version": "1.0.0"}
    for path in ("/v2/models/words", "/v2/models/words/versions/1.0.0"):
        answer = server.http.post(f"{path}/generate_stream", json={"words": "a b", "parameters": {"top": 1}})
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = [json.loads(part.removeprefix("data: ")) for part in answer.text.strip().split("\n\n")]
        assert events == [{**names, "text_output": word} for word in "ab"]
        whole = server.http.post(f"{path}/generate", json={"words": "a b", "id": "7"})
        assert whole.json() == {**names, "id": "7", "text_output": ["a", "b"]}
        assert server.http.post(f"{path}/generate", json={"words": "a"}).json() == {**names, "text_output": "a"}


def test_the_generate_extension_tells_errors_in_its_own_form(server: Server) -> None:
    for action in ("generate", "generate_stream"):
        refused = server.http.post(f"/v2/models/words/{action}", json={"words": "refuse"})
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/json")
        assert "not that word" in refused.json()["error"]
        assert server.http.post(f"/v2/models/nobody/{action}", json={}).status_code == 404
    answer = server.http.post("/v2/models/words/generate_stream", json={"words": "a fail"})
    *_, last = answer.text.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: ")).keys() == {"error"}


def test_mlflows_route_streams_too(server: Server) -> None:
    answer = server.http.post("/models/total/invocations", json={"inputs": [[1, 2]]}, headers={"Accept": LINES})
    assert documents(answer.text.splitlines())[0] == {"item": 3}


def test_the_sdk_yields_items_as_they_come(server: Server, place: Place) -> None:
    with Prism(server.url) as prism, closing(prism.stream("words", {"words": "a wait b"})) as items:
        assert next(items) == "a"
        in_the_middle(place, iter(["go"]), "go")
        assert list(items) == ["wait", "b"]


def test_the_sdk_raises_what_went_wrong(server: Server) -> None:
    with Prism(server.url, max_retries=0) as prism:
        items = prism.stream("words", {"words": "a fail"})
        assert next(items) == "a"
        with pytest.raises(errors.ServerError, match="no more words") as failed:
            next(items)
        assert (failed.value.code, failed.value.status) == ("model_error", 500)
        with pytest.raises(errors.APIError, match="not that word"):
            next(prism.stream("words", {"words": "refuse"}))
        with pytest.raises(errors.NotFoundError):
            next(prism.stream("nobody", {}))


def test_closing_the_sdks_generator_ends_the_stream(server: Server, place: Place) -> None:
    with Prism(server.url) as prism:
        with closing(prism.stream("words", {"words": "a", "numbers": 1_000_000})) as items:
            assert next(items) == "a"
        wait_for(lambda: place.has("closed"), SECONDS, "the generator to be closed")


async def test_the_asynchronous_sdk_does_the_same(server: Server, place: Place) -> None:
    async with AsyncPrism(server.url, max_retries=0) as prism:
        async with aclosing(prism.stream("words", {"words": "a wait b"})) as items:
            assert await anext(items) == "a"
            await asyncio.to_thread(in_the_middle, place, iter(["go"]), "go")
            assert [item async for item in items] == ["wait", "b"]
        place.remove("closed")
        with pytest.raises(errors.ServerError, match="no more words"):
            assert [item async for item in prism.stream("words", {"words": "a fail"})]
        place.remove("closed")
        async with aclosing(prism.stream("words", {"words": "a", "numbers": 1_000_000})) as items:
            assert await anext(items) == "a"
        await asyncio.to_thread(wait_for, lambda: place.has("closed"), SECONDS, "the generator to be closed")


def test_the_command_line_prints_each_item_as_it_comes(server: Server, place: Place) -> None:
    process = subprocess.Popen(
        command(server, "words", '{"words": "a wait b"}'),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == '"a"\n'
    in_the_middle(place, iter(["go"]), "go")
    rest, said = process.communicate(timeout=SECONDS)
    assert (rest, said, process.returncode) == ('"wait"\n"b"\n', "3 items\n", 0)


def test_the_command_line_tells_what_went_wrong(server: Server) -> None:
    done = subprocess.run(
        command(server, "words", '{"words": "a fail"}'), cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.stdout == '"a"\n'
    assert "no more words" in done.stderr
    assert done.returncode != 0


def test_the_documentation_of_the_routes_names_the_streams(server: Server) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    answers: Callable[[str], Any] = lambda path: paths[path]["post"]["responses"]["200"]["content"]  # noqa: E731
    assert answers("/models/{ref}/predict").keys() == {"application/json", EVENTS, LINES}
    assert answers("/v2/models/{name}/generate_stream").keys() == {EVENTS}
