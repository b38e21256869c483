"""Both doors of one gateway, each behind a real uvicorn server, and a client that says every byte itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import httptools
import uvicorn
from fastapi import FastAPI

from app.access.admission import Admission
from app.access.hosts import HostAllowList
from app.access.keys import Keys
from app.access.rate_limit import RateLimiter
from app.access.throttle import FailedKeyThrottle
from app.core.model import Deployment, Status
from app.core.route_table import route_table
from app.dispatch.batch import Lane
from app.dispatch.head_cache import HeadCache
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.dispatch.server import Connection
from app.error_shapes import ErrorForms
from app.http import problems
from app.http.guard import HostOriginMiddleware
from app.protocols import native
from app.protocols.error_forms import ERROR_FORMS
from app.protocols.handler import InferenceHandler
from app.protocols.v2 import rest as v2_rest
from app.protocols.v2.service import V2Service
from tests.fakes import FakeReplica, Handler, echo

MAX_BODY_BYTES = 1 << 18
FLOW = QueueSettings(
    max_batch_size=8, queue_length=32, window_seconds=0.05, timeout_seconds=20, heartbeat_timeout_seconds=20
)
PATIENCE_SECONDS = 20.0
OF_THE_MOMENT = ("date", "x-request-id", "server-timing", "content-length", "ratelimit-reset")


@dataclass
class Gateway:
    """protocol, asgi: the ports of the two doors."""

    protocol: int
    asgi: int
    door: HeadCache
    keys: Keys
    dispatcher: Dispatcher
    replica: FakeReplica
    server: uvicorn.Server

    def port(self, door: str) -> int:
        return self.protocol if door == "protocol" else self.asgi

    @property
    def lane(self) -> Lane:
        return self.dispatcher.lanes[0]


@asynccontextmanager
async def gateway(
    folder: Path,
    handler: Handler = echo,
    *,
    keys: Sequence[str] = (),
    rate_limit: int = 0,
    limits_owner: bool = True,
    flow: QueueSettings = FLOW,
    receive_timeout_seconds: float = 20,
    keep_alive_seconds: float = 20,
    error_forms: ErrorForms = ERROR_FORMS,
) -> AsyncIterator[Gateway]:
    replica = FakeReplica(folder / f"{len(list(folder.iterdir()))}.sock", handler)
    await replica.start()
    dispatcher = Dispatcher(RateLimiter(rate_limit, 3600), flow, lambda *_: None)
    iris = Deployment("m1", "iris", "1.0.0", Status.LIVE, True, "process", (replica.replica,), live_at="2026")
    await dispatcher.publish(route_table([iris]))
    known = Keys(keys)
    # Each look at this clock is a minute later: a bound on wrong keys would be reached at one of the two doors first.
    wrong_keys = FailedKeyThrottle(clock=count(0, 60).__next__)
    admission = Admission(
        known,
        must_have_key=lambda: known.required,
        has_host=HostAllowList(["prism.example"]).known,
        wrong_keys=wrong_keys,
        limits_owner=limits_owner,
    )
    door = HeadCache(dispatcher, admission, error_forms, MAX_BODY_BYTES, receive_timeout_seconds)
    app = application(dispatcher, admission, error_forms)
    servers = [await started(app, http, keep_alive_seconds) for http in (partial(Connection, door), "httptools")]
    ports = [server.servers[0].sockets[0].getsockname()[1] for server in servers]
    try:
        yield Gateway(ports[0], ports[1], door, known, dispatcher, replica, servers[0])
    finally:
        await asyncio.gather(*(server.shutdown() for server in servers))
        await dispatcher.close()
        await replica.die()


def application(dispatcher: Dispatcher, admission: Admission, error_forms: ErrorForms) -> FastAPI:
    app = FastAPI()
    problems.install(app, error_forms)
    asking = InferenceHandler(dispatcher, admission, MAX_BODY_BYTES)
    app.include_router(native.router(asking))
    service = V2Service(dispatcher, admission, cast(Any, None), lambda: True)  # only its metadata needs a state
    app.include_router(v2_rest.router(asking, service, ()))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.add_middleware(HostOriginMiddleware, hosts=HostAllowList(["prism.example"]))
    return app


async def started(app: FastAPI, http: Any, keep_alive_seconds: float) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=cast(int, keep_alive_seconds),
        timeout_graceful_shutdown=20,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    await server.startup([listener])
    await server.on_tick(0)
    return server


class Answer:
    """One response, as httptools reads it. ended: nothing is missing."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self.body
        document: dict[str, Any] = json.loads(self.body)
        assert document["request_id"] == self.headers["x-request-id"]
        return document

    @property
    def echoed(self) -> Any:
        assert self.status == 200, self.body
        return json.loads(self.body)["predictions"][0]


def same(one: Answer, other: Answer) -> None:
    """Equal but for what is of the moment."""
    assert one.status == other.status
    assert one.headers.keys() == other.headers.keys()
    for name in one.headers.keys() - {*OF_THE_MOMENT}:
        assert one.headers[name] == other.headers[name], name
    ids = [each.headers["x-request-id"].encode() for each in (one, other)]
    assert one.body.replace(ids[0], b"") == other.body.replace(ids[1], b"")


class _Reading:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.answers.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answers[-1].headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.answers[-1].status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answers[-1].body += body

    def on_message_complete(self) -> None:
        self.answers[-1].ended = True


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._reading = _Reading()
        self._taken = 0
        self.received = b""
        self.reset = False

    async def send(self, *segments: bytes) -> None:
        """Each as a segment of its own, unless the machine is so slow that the server finds two at a time."""
        for segment in segments:
            await self._loop.sock_sendall(self._connection, segment)
            for _ in range(3):
                await asyncio.sleep(0)

    async def answer(self) -> Answer:
        """The next one, whole."""
        while not (len(self._reading.answers) > self._taken and self._reading.answers[self._taken].ended):
            assert await self._receive(), f"closed after {self.received!r}"
        self._taken += 1
        return self._reading.answers[self._taken - 1]

    async def answers(self, count: int) -> list[Answer]:
        return [await self.answer() for _ in range(count)]

    async def rest(self) -> list[Answer]:
        """Every answer that was not taken yet, once the server has closed the connection."""
        while await self._receive():
            pass
        rest = self._reading.answers[self._taken :]
        self._taken += len(rest)
        return rest

    async def _receive(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                data = await self._loop.sock_recv(self._connection, 1 << 16)
        except ConnectionResetError:  # it closed while something unread was on its way to it
            self.reset = True
            return False
        if data:
            self.received += data
            self._reading.parser.feed_data(data)
        return bool(data)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        yield Client(connection)


async def ask(port: int, *segments: bytes) -> Answer:
    """The answer to one request on a connection of its own."""
    async with connected(port) as client:
        await client.send(*segments)
        return await client.answer()


async def last_words(port: int, *segments: bytes) -> list[Answer]:
    """What the server says until it closes the connection."""
    async with connected(port) as client:
        await client.send(*segments)
        return await client.rest()


def request(
    body: bytes = b"[1, 2]",
    *lines: str,
    path: str = "/models/iris/predict",
    method: str = "POST",
    version: str = "1.1",
    host: str = "localhost",
    length: str | None = None,
) -> bytes:
    """lines: further header lines. length: Content-Length's value if it is not the body's; "" for none at all."""
    size = str(len(body)) if length is None else length
    head = [f"{method} {path} HTTP/{version}", f"Host: {host}", "Content-Type: application/json", *lines]
    if size:
        head.append(f"Content-Length: {size}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
