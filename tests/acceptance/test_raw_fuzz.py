"""Bytes that no client would send, on every route that predicts: never a 5xx, and nothing of them stays in memory."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.acceptance.raw import (
    BINARIES,
    BODIES,
    BOMB,
    ENCODINGS,
    GOOD,
    ROUTES,
    ROWS,
    SECONDS,
    TYPES,
    Line,
    Sent,
    anonymous_bytes,
    broken,
    torn,
)
from tests.acceptance.routes_lab import PREDICT
from tests.acceptance.served import serving
from tests.acceptance.server import Server, free_port

pytestmark = pytest.mark.slow

MAX_BODY_MB = 1
TORN = 300
WARM_UP = 3000
MANY = 12_000
LEAK_BYTES = 150
"""A request. A tenth of that is what a machine with much else to do makes look like a leak."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path, iris_file: Path) -> Iterator[Server]:
    settings = {"PRISM_TARGET": "process", "PRISM_MAX_BODY_MB": MAX_BODY_MB, "PRISM_GRPC_PORT": free_port()}
    with serving(tmp_path_factory.mktemp("home"), environments, **settings) as server:
        server.deploy(iris_file, model_name="iris")
        yield server


@pytest.fixture(autouse=True)
def serves_on(server: Server) -> Iterator[None]:
    """After whatever it was sent, a good request of each kind is answered, by the processes that were there before."""
    before = anonymous_bytes(server).keys()
    yield
    with Line(server.port) as line:
        for sent in GOOD:
            assert_refused_or_answered(sent, line.ask(sent), 200)
    assert anonymous_bytes(server).keys() == before


def assert_refused_or_answered(sent: object, answer: tuple[int, bytes] | None, *wanted: int) -> None:
    """wanted: the statuses that are right; else any but of a failing server. 503 is how a full one says so."""
    if answer is None and not wanted:
        return
    assert answer is not None, sent
    status, body = answer
    assert status in wanted if wanted else (200 <= status < 500 or status == 503), (sent, status, body[:500])
    assert b"Traceback" not in body


@pytest.mark.parametrize("path", ROUTES)
def test_no_body_makes_a_route_fail(server: Server, path: str) -> None:
    sent = [Sent(path, body) for body in BODIES]
    sent += [Sent(path, ROUTES[path], ((b"Content-Type", kind),)) for kind in TYPES]
    sent += [Sent(path, encode(ROUTES[path]), ((b"Content-Encoding", how),)) for how, encode in ENCODINGS]
    for one in sent:
        with Line(server.port) as line:
            assert_refused_or_answered(one, line.ask(one))


def test_no_binary_tensor_makes_a_route_fail(server: Server) -> None:
    with Line(server.port) as line:
        for sent in BINARIES:
            assert_refused_or_answered(sent, line.ask(sent))


@pytest.mark.parametrize("path", ROUTES)
def test_what_is_too_large_is_refused_as_it_is_and_packed(server: Server, path: str) -> None:
    before = max(anonymous_bytes(server).values())
    for sent in (
        Sent(path, b" " * (MAX_BODY_MB << 20) + ROUTES[path]),
        Sent(path, b"", length=1 << 40),
        Sent(path, BOMB, ((b"Content-Encoding", b"gzip"),)),
    ):
        with Line(server.port) as line:
            assert_refused_or_answered(sent.headers, line.ask(sent), 413)
    assert max(anonymous_bytes(server).values()) - before < 40 << 20, "the bomb went off"


@pytest.mark.parametrize("path", ROUTES)
def test_requests_one_behind_the_other_are_all_answered(server: Server, path: str) -> None:
    whole = Sent(path, ROUTES[path]).encoded()
    with Line(server.port) as line:
        line.send(whole + Sent(path, b"{").encoded() + whole)
        answers = [line.answer() for _ in range(3)]
    assert [answer and answer[0] for answer in answers] == [200, 400, 200]


def test_torn_requests_are_refused_or_forgotten(server: Server) -> None:
    chance = random.Random(5)
    for _ in range(TORN):
        data = torn(chance)
        with Line(server.port) as line:
            line.send(data)
            line.send_no_more()
            for answer in line.answers():
                assert_refused_or_answered(data, answer)


def test_whoever_leaves_before_the_answer_costs_nothing(server: Server) -> None:
    for _ in range(TORN):
        with Line(server.port) as line:
            line.send(GOOD[0].encoded())


def test_memory_does_not_grow_with_broken_requests(server: Server) -> None:
    chance = random.Random(11)
    ask_many(server, chance, WARM_UP)
    before = anonymous_bytes(server)
    ask_many(server, chance, MANY)
    growth = {pid: held - before[pid] for pid, held in anonymous_bytes(server).items()}
    assert max(growth.values()) < LEAK_BYTES * MANY, growth


def ask_many(server: Server, chance: random.Random, count: int) -> None:
    """On connections of some hundred requests each, as some of them end one."""
    asked = 0
    while asked < count:
        with Line(server.port) as line:
            for _ in range(300):
                sent = broken(chance)
                answer = line.ask(sent)
                assert_refused_or_answered(sent, answer)
                asked += 1
                if answer is None or asked == count:
                    break


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def garbage(chance: random.Random) -> bytes:
    """For the port of gRPC: another protocol, or HTTP/2 that soon is none."""
    settings = b"\0\0\0\4\0\0\0\0\0"
    way = chance.randrange(5)
    if way == 0:
        return chance.randbytes(chance.randrange(1, 2000))
    if way == 1:
        return GOOD[chance.randrange(len(GOOD))].encoded()
    if way == 2:
        return PREFACE[: chance.randrange(len(PREFACE))]
    if way == 3:
        return PREFACE + settings + chance.randbytes(chance.randrange(1, 500))
    length = chance.choice((0, 5, 1 << 14, (1 << 24) - 1))
    frame = length.to_bytes(3, "big") + bytes([chance.randrange(12), chance.randrange(256), 0, 0, 0, 1])
    return PREFACE + settings + frame + chance.randbytes(min(length, 300))


def test_garbage_on_the_port_of_grpc_ends_a_connection_and_no_more(server: Server) -> None:
    chance, port = random.Random(3), int(server.environ["PRISM_GRPC_PORT"])
    for _ in range(TORN):
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as line:
            line.sendall(garbage(chance))
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        rows = triton.InferInput("rows", [2, 4], "FP64")
        rows.set_data_from_numpy(np.array(ROWS))
        assert client.infer("iris", [rows]).as_numpy("predictions").tolist() == [b"setosa", b"virginica"]


def test_messages_that_are_none_end_a_call_and_no_more(server: Server) -> None:
    """Bytes that are no protocol buffer, for methods that exist and one that does not."""
    chance = random.Random(4)
    with grpc.insecure_channel(f"127.0.0.1:{server.environ['PRISM_GRPC_PORT']}") as channel:
        for method in ("ModelInfer", "ModelMetadata", "ServerLive", "Nothing"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}", bytes, bytes)
            for _ in range(30):
                with pytest.raises(grpc.RpcError) as told:
                    call(b"\xff" + chance.randbytes(chance.randrange(200)), timeout=SECONDS)
                assert told.value.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE), method


def test_every_route_that_predicts_is_among_them() -> None:
    names = {"ref": "iris", "name": "iris", "model_name": "iris", "version": "1.0.0"}
    assert set(ROUTES) == {path.format(**names) for path in PREDICT}
