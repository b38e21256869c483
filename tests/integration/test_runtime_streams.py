"""An image that runs by itself streams: at the pace of its client, in the forms of the gateway."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from model_container.contract.config import VARIABLE, RuntimeConfig
from tests.acceptance.server import free_port, wait_for

PROGRAM = Path(__file__).parents[2] / "model_container" / "__main__.py"
SECONDS = 60
EVENTS, LINES = "text/event-stream", "application/x-ndjson"
MODEL = """
import time
from pathlib import Path

class Model:
    sample = {"words": "a b"}

    def predict(self, request):
        here = Path(request["folder"]) if "folder" in request else None
        try:
            for word in request["words"].split():
                if word == "wait":
                    while not (here / "go").exists():
                        time.sleep(0.005)
                if word == "fail":
                    raise RuntimeError("no more words")
                yield word
            for number in range(request.get("numbers", 0)):
                (here / "made").write_text(str(number))
                yield str(number) + "x" * 4096
        finally:
            if here:
                (here / "closed").touch()
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.py").write_text(MODEL)
    config = RuntimeConfig(artifact=str(folder), format="python", port=free_port())
    log = folder / "runtime.log"
    with log.open("wb") as out:
        environ = {**os.environ, VARIABLE: config.to_json()}
        process = subprocess.Popen([sys.executable, "-B", str(PROGRAM)], env=environ, stdout=out, stderr=out)
    try:
        address = f"http://127.0.0.1:{config.port}"
        wait_for(lambda: process.poll() is not None or answers(address), SECONDS, "the runtime's start")
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/ping", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def ask(url: str, path: str, body: Any, accept: str = "*/*") -> httpx2.Response:
    return httpx2.post(url + path, json=body, headers={"Accept": accept}, timeout=SECONDS, trust_env=False)


def streamed(url: str, body: Any, accept: str = LINES) -> Any:
    return httpx2.stream(
        "POST", f"{url}/predict", json=body, headers={"Accept": accept}, timeout=SECONDS, trust_env=False
    )


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_both_stream_formats_equal_those_of_the_gateway(url: str, path: str) -> None:
    body = {"words": "a b"} if path == "/predict" else {"inputs": {"words": "a b"}}
    events = ask(url, path, body, EVENTS)
    assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events.headers["cache-control"] == "no-cache"
    assert events.text == 'id: 0\ndata: "a"\n\nid: 1\ndata: "b"\n\nevent: end\ndata: {"items":2}\n\n'
    lines = ask(url, path, body, LINES)
    assert lines.text == '{"item":"a"}\n{"item":"b"}\n{"end":{"items":2}}\n'
    assert ask(url, path, body).json() == {"predictions": ["a", "b"]}


def test_a_stream_of_nothing_ends_at_once(url: str) -> None:
    assert ask(url, "/predict", {"words": ""}, LINES).text == '{"end":{"items":0}}\n'


def test_items_come_before_the_model_is_done(url: str, tmp_path: Path) -> None:
    with streamed(url, {"words": "a wait b", "folder": str(tmp_path)}) as response:
        lines = response.iter_lines()
        assert next(lines) == '{"item":"a"}'
        assert not (tmp_path / "closed").exists()
        (tmp_path / "go").touch()
        assert list(lines) == ['{"item":"wait"}', '{"item":"b"}', '{"end":{"items":3}}']


def test_failures_are_reported_before_and_during_a_stream(url: str) -> None:
    refused = ask(url, "/predict", {"words": "fail"}, EVENTS)
    assert (refused.status_code, refused.headers["content-type"]) == (500, "application/problem+json")
    *_, last = ask(url, "/predict", {"words": "a fail"}, LINES).text.splitlines()
    assert json.loads(last)["error"]["code"] == "model_error"
    *_, event = ask(url, "/predict", {"words": "a fail"}, EVENTS).text.strip().split("\n\n")
    assert event.startswith("event: error\ndata: {")


def test_a_client_that_has_gone_closes_the_generator(url: str, tmp_path: Path) -> None:
    with streamed(url, {"words": "a", "numbers": 1_000_000, "folder": str(tmp_path)}) as response:
        lines = response.iter_lines()
        next(lines)
        assert not (tmp_path / "closed").exists()
    wait_for(lambda: (tmp_path / "closed").exists(), SECONDS, "the generator to be closed")


def test_a_slow_client_slows_the_model_and_nobody_else(url: str, tmp_path: Path) -> None:
    with streamed(url, {"words": "a", "numbers": 100_000, "folder": str(tmp_path)}) as response:
        lines = response.iter_lines()
        next(lines)
        seen: list[str] = []

        def stands_still() -> bool:
            made = tmp_path / "made"
            seen.append(made.read_text() if made.exists() else "")
            return len(seen) > 25 and seen[-25] == seen[-1] != ""

        wait_for(stands_still, SECONDS, "the model to wait for its client")
        assert int(seen[-1]) < 20_000
        assert ask(url, "/predict", {"words": "c"}).json() == {"predictions": ["c"]}


def test_the_generate_extension(url: str) -> None:
    names = {"model_name": "any", "model_version": "3"}
    path = "/v2/models/any/versions/3"
    assert ask(url, f"{path}/generate", {"words": "a b", "id": "7"}).json() == {
        **names,
        "id": "7",
        "text_output": ["a", "b"],
    }
    events = ask(url, f"{path}/generate_stream", {"words": "a fail"}).text.strip().split("\n\n")
    first, last = (json.loads(event.removeprefix("data: ")) for event in events)
    assert first == {**names, "text_output": "a"}
    assert "no more words" in last["error"]
    assert ask(url, f"{path}/generate_stream", {"words": "fail"}).json().keys() == {"error"}


def test_an_http_1_0_stream_ends_with_its_connection(url: str) -> None:
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        body = b'{"words": "a"}'
        client.sendall(
            b"POST /predict HTTP/1.0\r\nAccept: %b\r\nContent-Length: %d\r\n\r\n%b" % (LINES.encode(), len(body), body)
        )
        said = b""
        while data := client.recv(1 << 16):
            said += data
    head, _, rest = said.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert rest == b'{"item":"a"}\n{"end":{"items":1}}\n'


def test_a_connection_stays_open_after_a_stream(url: str) -> None:
    with httpx2.Client(base_url=url, timeout=SECONDS, trust_env=False) as http:
        for _ in range(3):
            answer = http.post("/predict", json={"words": "a"}, headers={"Accept": LINES})
            assert answer.headers["transfer-encoding"] == "chunked"
            assert http.post("/predict", json={"words": "b"}).json() == {"predictions": ["b"]}
