"""Streams of a runtime over real sockets: items one by one, at the pace of who takes them, others in between."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_container.adapters import load
from model_container.adapters.base import Adapter
from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.contract.config import RuntimeConfig
from model_container.contract.frames import (
    ANSWERS,
    DIALECT_GENERATE,
    OPTION_PROBABILITIES,
    PART,
    PROTOCOL,
    STREAM,
    WELCOME,
    Answer,
    Request,
    decode_answers,
    encode_requests,
)
from model_container.server.server import Server
from model_container.server.turns import FairLock
from tests.acceptance.server import wait_for
from tests.integration.runtime_lab import Connection
from tests.unit.model_container.asking import ask, ask_all, predictions
from tests.unit.model_container.streaming_lab import SECONDS, Model, rows


class Client(Connection):
    """A gateway's side of one connection that was welcomed."""

    def __init__(self, path: str) -> None:
        super().__init__(path, token="")
        self.socket.settimeout(SECONDS)
        assert self.receive().kind == WELCOME

    def stream(self, body: Any, dialect: int = 0, options: int = 0, times: int = 1) -> None:
        request = Request(json.dumps(body).encode(), dialect, options)
        self.socket.sendall(encode_requests(5, [request] * times, STREAM))

    def item(self) -> Any:
        frame = self.receive()
        assert (frame.kind, frame.id) == (PART, 5), frame
        return json.loads(frame.payload)

    def rest(self) -> tuple[list[Any], Answer]:
        """The items that still come, and how it ended."""
        items = []
        while True:
            frame = self.receive()
            if frame.kind == ANSWERS:
                (answer,), _, _ = decode_answers(frame)
                return items, Answer(*answer)
            items.append(json.loads(frame.payload))

    def predictions(self, body: Any) -> Any:
        (answer,) = self.predict(json.dumps(body).encode())
        return json.loads(answer.body)["predictions"]


Connect = Callable[[], Client]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Adapter], tuple[Server, Connect]]]:
    """A server of that adapter, and how to connect to it."""
    servers: list[Server] = []
    clients: list[Client] = []

    def begin(adapter: Adapter) -> tuple[Server, Connect]:
        path = str(tmp_path / f"{len(servers)}.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(8)
        server = Server(adapter, {"protocol": PROTOCOL}, "")
        servers.append(server)
        server.start([listener])

        def connect() -> Client:
            clients.append(Client(path))
            return clients[-1]

        return server, connect

    yield begin
    for client in clients:
        client.socket.close()
    for server in servers:
        server.stop()


@pytest.fixture
def connect(serve: Callable[[Adapter], tuple[Server, Connect]], model: Model) -> Connect:
    return serve(EstimatorAdapter(model))[1]


def test_each_item_comes_before_the_next_one_is_made(connect: Connect, model: Model) -> None:
    model.gates = {1: threading.Event(), 2: threading.Event()}
    client = connect()
    client.stream(rows(3))
    assert client.item() == 0
    assert model.made == 1
    model.gates[1].set()
    assert client.item() == 1
    assert model.made == 2
    model.gates[2].set()
    items, end = client.rest()
    assert items == [2]
    assert (end.status, json.loads(end.body)) == (200, {"items": 3})


def test_a_slow_item_looks_busy_and_a_stream_that_waits_for_its_client_does_not(connect: Connect, model: Model) -> None:
    model.gates = {1: threading.Event()}
    client, other = connect(), connect()
    client.stream(rows(2))
    assert client.item() == 0
    wait_for(lambda: other.ping()["busy_ms"] > 0, SECONDS, "the second item to be begun")
    model.gates[1].set()
    client.rest()
    assert other.ping()["busy_ms"] == 0
    assert other.ping()["served"] == 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(ValueError("not so"), 422, "prediction_failed"), (RuntimeError("broken"), 500, "model_error")],
)
@pytest.mark.parametrize("at", [0, 2])
def test_a_failure_ends_the_stream_with_its_problem(
    connect: Connect, model: Model, at: int, error: BaseException, status: int, code: str
) -> None:
    model.fails_at = {at: error}
    client = connect()
    client.stream(rows(5))
    items, end = client.rest()
    assert items == list(range(at))
    assert (end.status, json.loads(end.body)["code"]) == (status, code)
    assert client.predictions({"features": [[0]]}) == []  # the connection is as good as before


def test_errors_of_the_request_are_reported_before_any_item(connect: Connect) -> None:
    client = connect()
    client.stream({"features": []})
    items, end = client.rest()
    assert (items, end.status, json.loads(end.body)["code"]) == ([], 422, "no_rows")


def test_a_client_that_has_gone_closes_the_generator(connect: Connect, model: Model) -> None:
    client, other = connect(), connect()
    model.size = 1 << 16
    client.stream(rows(1_000_000))
    client.item()
    client.socket.close()
    assert model.closed.wait(SECONDS)
    assert other.predictions(rows(2)) == ["x" * model.size] * 2


def test_the_model_makes_no_more_than_the_sockets_hold(connect: Connect, model: Model) -> None:
    model.size = 1 << 14
    client, other = connect(), connect()
    client.stream(rows(2000))
    client.item()
    seen: list[int] = []

    def stands_still() -> bool:
        seen.append(model.made)
        return len(seen) > 25 and seen[-25] == seen[-1]

    wait_for(stands_still, SECONDS, "the model to wait for its client")
    assert model.made < 200
    assert other.ping()["busy_ms"] == 0
    items, _ = client.rest()
    assert len(items) == 1999


def test_other_requests_are_answered_between_two_items(connect: Connect, model: Model) -> None:
    model.size = 1 << 14
    client, other = connect(), connect()
    client.stream(rows(5000))
    client.item()
    assert len(other.predictions(rows(3))) == 3
    second = connect()
    second.stream(rows(2))
    assert len(second.rest()[0]) == 2
    assert len(client.rest()[0]) == 4999


def test_a_waiting_request_is_served_before_the_next_item() -> None:
    turns, order = FairLock(), []

    def wait() -> None:
        assert not turns.lock.acquire(False)
        turns.wait()
        order.append("waited")
        turns.lock.release()

    waiting = threading.Thread(target=wait)

    def is_at_the_lock() -> bool:
        frame = sys._current_frames().get(waiting.ident or 0)
        return frame is not None and frame.f_code is FairLock.wait.__code__ and frame.f_lineno == last_line

    last_line = max(line for _, _, line in FairLock.wait.__code__.co_lines() if line is not None)
    with turns.one():
        order.append("an item")
        waiting.start()
        wait_for(is_at_the_lock, SECONDS, "the other to wait")
    with turns.one():
        order.append("the next")
    waiting.join()
    assert order == ["an item", "waited", "the next"]


def test_a_model_that_does_not_yield_answers_with_its_rows(serve: Any, classifier: Any, matrix: Any) -> None:
    _, connect = serve(EstimatorAdapter(classifier))
    client = connect()
    asked = {"features": matrix[:3].tolist()}
    client.stream(asked)
    items, end = client.rest()
    assert items == classifier.predict(matrix[:3]).tolist()
    assert json.loads(end.body) == {"items": 3}
    client.stream(asked, options=OPTION_PROBABILITIES)
    items, _ = client.rest()
    assert [one["prediction"] for one in items] == classifier.predict(matrix[:3]).tolist()
    np.testing.assert_allclose([one["probabilities"] for one in items], classifier.predict_proba(matrix[:3]))
    client.stream({"features": [[1, 2]]})
    assert client.rest()[1].status == 422


def test_a_model_that_does_not_yield_must_return_one_item_per_row(serve: Any, tmp_path: Path) -> None:
    source = "class Model:\n    def predict(self, rows):\n        return [1]\n"
    _, connect = serve(python(tmp_path, source))
    client = connect()
    client.stream([[1], [2]])
    items, end = client.rest()
    assert (items, json.loads(end.body)["code"]) == ([], "wrong_output_length")


def test_a_frame_with_two_requests_ends_the_connection(connect: Connect) -> None:
    client = connect()
    client.stream(rows(1), times=2)
    with pytest.raises(EOFError):
        client.receive()


def test_the_end_of_the_runtime_ends_a_stream_with_a_problem(
    serve: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_container.server.server.STREAM_END_SECONDS", SECONDS)
    server, connect = serve(EstimatorAdapter(model))
    model.gates = {1: threading.Event()}
    client, idle = connect(), connect()
    client.stream(rows(1_000_000))
    assert client.item() == 0
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    with pytest.raises(EOFError):  # once it ends
        idle.receive()
    model.gates[1].set()
    _, end = client.rest()
    assert (end.status, json.loads(end.body)["code"]) == (503, "stopping")
    stopping.join(SECONDS)
    assert not stopping.is_alive()
    assert model.closed.is_set()


def test_shutdown_does_not_wait_for_an_abandoned_item(serve: Any, model: Model) -> None:
    server, connect = serve(EstimatorAdapter(model))
    model.gates = {1: threading.Event()}
    client = connect()
    client.stream(rows(3))
    assert client.item() == 0
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    stopping.join(SECONDS)
    assert not stopping.is_alive()
    model.gates[1].set()


def test_shutdown_does_not_wait_for_a_client_that_does_not_read(serve: Any, model: Model) -> None:
    server, connect = serve(EstimatorAdapter(model))
    model.size = 1 << 20
    client = connect()
    client.stream(rows(1_000_000))
    wait_for(lambda: model.made > 0, SECONDS, "the first item")
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    stopping.join(SECONDS)
    assert not stopping.is_alive()
    assert model.closed.wait(SECONDS)
    client.socket.close()


def python(folder: Path, source: str) -> Adapter:
    folder = folder / "model"
    folder.mkdir()
    (folder / "model.py").write_text(source)
    return load(RuntimeConfig(str(folder), "python"))


@pytest.fixture
def main_left_clean() -> Iterator[None]:
    path, main = list(sys.path), dict(vars(sys.modules["__main__"]))
    yield
    sys.path[:] = path
    sys.modules.pop("model", None)
    vars(sys.modules["__main__"]).clear()
    vars(sys.modules["__main__"]).update(main)


TOKENS = """
class Model:
    def predict(self, request):
        for word in request["text"].split():
            print("made", word)
            yield word

    def postprocess(self, words):
        {}
"""


@pytest.mark.usefixtures("main_left_clean")
@pytest.mark.parametrize(
    ("postprocess", "made_before_the_first"),
    [
        ("yield from (word.upper() for word in words)", ["a"]),
        ("return [word.upper() for word in words]", ["a", "b", "c"]),
    ],
)
def test_a_postprocess_that_yields_takes_each_item_as_it_is_made(
    serve: Any, tmp_path: Path, capsys: Any, postprocess: str, made_before_the_first: list[str]
) -> None:
    adapter = python(tmp_path, TOKENS.format(postprocess))
    items = adapter.begin(adapter.inputs(content({"text": "a b c"})))  # type: ignore[attr-defined]
    if hasattr(items, "__next__"):
        assert next(items) == "A"
    assert capsys.readouterr().out.split() == [part for word in made_before_the_first for part in ("made", word)]
    assert predictions(adapter, {"text": "a b"}) == ["A", "B"]


def content(values: dict[str, Any]) -> Any:
    from model_container.bodies.content import Named

    return Named(values)


@pytest.mark.usefixtures("main_left_clean")
def test_a_request_without_a_stream_gets_all_yielded_items(tmp_path: Path, model: Model) -> None:
    assert predictions(EstimatorAdapter(model), rows(3)) == [0, 1, 2]
    assert predictions(EstimatorAdapter(lambda rows: (row for row in [1, 2, 3])), [[1]]) == [1, 2, 3]
    assert predictions(EstimatorAdapter(lambda rows: map(str, range(2))), [[1]]) == ["0", "1"]
    adapter = python(tmp_path, "class Model:\n    def predict(self, rows):\n        yield from 'abc'\n")
    assert predictions(adapter, {"features": ["one row"]}) == ["a", "b", "c"]


@pytest.mark.usefixtures("main_left_clean")
def test_joined_rows_must_yield_one_item_each(tmp_path: Path) -> None:
    source = "class Model:\n    batch = True\n    def predict(self, rows):\n        yield from (row[0] * 2 for row in rows)\n"
    adapter = python(tmp_path, source)
    replies = ask_all(Batcher(adapter), [[[1], [2]], [[3]]])
    assert [reply.json["predictions"] for reply in replies] == [[2, 4], [6]]


@pytest.mark.usefixtures("main_left_clean")
def test_the_generate_extension_names_inputs_and_outputs(serve: Any, tmp_path: Path) -> None:
    source = (
        "class Model:\n    def predict(self, request):\n"
        "        for word in request['text_input'].split() * request['parameters']['times']:\n"
        "            yield {'word': word, 'length': 1} if word == 'o' else word\n"
    )
    adapter = python(tmp_path, source)
    _, connect = serve(adapter)
    client = connect()
    body = {"id": "7", "text_input": "a o", "parameters": {"times": 2}}
    client.stream(body, DIALECT_GENERATE)
    named = [{"text_output": "a"}, {"word": "o", "length": 1}]
    assert client.rest()[0] == named * 2
    (answer,), _, _ = Batcher(adapter).run(
        [Request(json.dumps({**body, "text_input": "a"}).encode(), DIALECT_GENERATE)]
    )
    assert json.loads(answer.body) == {"id": "7", "text_output": ["a", "a"]}


def test_generate_takes_the_columns_of_a_table_by_name(pipeline: Any) -> None:
    adapter = EstimatorAdapter(pipeline)
    row = {"age": 30, "city": "lima", "rooms": 1}
    body = json.dumps({**row, "parameters": {"temperature": 0}, "stream": False}).encode()
    (answer,), _, _ = Batcher(adapter).run([Request(body, DIALECT_GENERATE)])
    assert json.loads(answer.body) == {"text_output": predictions(adapter, row)[0]}
    (refused,), _, _ = Batcher(adapter).run([Request(b"[1]", DIALECT_GENERATE)])
    assert json.loads(refused.body)["code"] == "unknown_dialect"
    assert ask(adapter, row).status == 200
