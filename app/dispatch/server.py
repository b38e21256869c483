"""The protocol door: predict requests answered where they arrive, everything else handed to the ASGI application.

uvicorn takes the class by `http=`. It is uvicorn's own httptools protocol, but for requests that are plainly
`POST /models/{ref}/predict` with a Content-Length: these never become an ASGI scope, a task or a FastAPI route.
Whatever is unusual about a request (an odd header, a bad key, a wrong host, pipelining, chunks) makes it take the
other door, which answers the same, only slower; so nothing here decides what a request may not do.

The head of a request is read once: clients repeat theirs byte for byte, so a head that was read, found plain and
allowed is remembered, and the next one that equals it needs no parsing.

It also bounds what uvicorn leaves open: how long a request may take to arrive.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from itertools import count
from time import monotonic
from typing import Any

import msgspec
from msgspec import Struct
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.core.hosts import Hosts
from app.dispatch.batch import Reply, Waiting
from app.dispatch.pipeline import Dispatcher, answer_body, answer_headers, content_type
from app.errors import PROBLEM_JSON, HeadTooLarge, PrismError, RequestTimeout, Unauthorized
from model_container import frames

PREDICT = re.compile(rb"/models/([A-Za-z0-9_.@+-]+)/predict(\?probabilities=(?:true|false))?")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
HEAD_LIMIT_BYTES = 1 << 16
HEADS_MAX = 16_384
HEAD_BYTES_MAX = 1024
"""Bounds of what is remembered: 16 MiB if every head is as long as it may be; usual ones are 200 bytes."""

RECEIVE_BYTES_PER_SECOND = 1024
"""A sender that is not slower than this may take as long as its body needs."""

PLAIN_TYPES = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
NEUTRAL = frozenset(
    (b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"cache-control", b"pragma", b"dnt", b"priority")
)
"""Headers that mean nothing to a prediction."""


class Head(Struct, frozen=True):
    """What the head of a plain predict request says. caller: "" where callers are known by their address."""

    ref: str
    options: int
    length: int
    caller: str
    request_id: bytes = b""


class Door:
    """What every connection shares. receive_timeout_seconds: for a request to arrive, plus a second for each KiB."""

    def __init__(
        self, dispatcher: Dispatcher, hosts: Hosts, max_body_bytes: int, receive_timeout_seconds: float
    ) -> None:
        self.dispatcher = dispatcher
        self.receive_timeout_seconds = receive_timeout_seconds
        self.heads: dict[bytes, Head] = {}
        self._hosts = hosts
        self._max_body_bytes = max_body_bytes
        self._id_prefix = secrets.token_hex(4).encode()
        self._id_numbers = count(secrets.randbits(24))
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._openings: dict[tuple[int, str], bytes] = {}

    def new_request_id(self) -> bytes:
        """Unique, not secret; a random number for each would cost a system call."""
        return b"%b%08x" % (self._id_prefix, next(self._id_numbers) & 0xFFFFFFFF)

    def opening(self, status: int, kind: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """An answer's first lines, up to the request id. uvicorn makes its default headers (the date) anew each second."""
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._openings.clear()
        opening = self._openings.get((status, kind))
        if opening is None:
            lines = b"".join(b"%b: %b\r\n" % line for line in default_headers)
            opening = b"%b%bcontent-type: %b\r\nx-request-id: " % (STATUS_LINE[status], lines, kind.encode())
            self._openings[status, kind] = opening
        return opening

    def read_head(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> Head | None:
        """headers: names in lower case. None for what is not plain, and so for the other door to judge."""
        path = PREDICT.fullmatch(url)
        given = dict(headers)
        if path is None or len(given) != len(headers):
            return None
        length, host = given.pop(b"content-length", b""), given.pop(b"host", b"")
        if not length.isdigit() or int(length) > self._max_body_bytes or not self._hosts.known(host.decode("latin-1")):
            return None
        request_id = given.pop(b"x-request-id", b"")
        key = given.pop(b"x-api-key", None)
        scheme, _, token = given.pop(b"authorization", b"").partition(b" ")
        if key is None:
            key = token.strip() if scheme.lower() == b"bearer" else b""
        plain = (
            given.pop(b"content-type", PLAIN_TYPES[0]).lower() in PLAIN_TYPES
            and given.pop(b"connection", b"keep-alive").lower() == b"keep-alive"
            and (not request_id or REQUEST_ID.fullmatch(request_id) is not None)
            and given.keys() <= NEUTRAL
        )
        caller = self._caller(key.decode("latin-1")) if plain else None
        if caller is None:
            return None
        options = frames.OPTION_PROBABILITIES if path[2] == b"?probabilities=true" else 0
        return Head(path[1].decode(), options, int(length), caller, request_id)

    def _caller(self, key: str) -> str | None:
        if not self.dispatcher.keys.required:
            return ""
        try:
            return self.dispatcher.keys.caller(key, "")
        except Unauthorized:
            return None

    def remember(self, raw: bytes, head: Head, lines: int) -> None:
        """raw: the head with its blank line. lines: how many the parser saw, which must be all there are."""
        plain_lines = raw.count(b"\r\n") == raw.count(b"\n") == lines + 1
        if head.request_id or len(raw) > HEAD_BYTES_MAX or not plain_lines:
            return
        if len(self.heads) >= HEADS_MAX:
            self.heads.clear()
        self.heads[raw] = head


class _NoEvent:
    """uvicorn wakes the ASGI application by an event; there is none to be woken."""

    def set(self) -> None:
        pass


class Exchange(Waiting):
    """One predict request on a connection. To uvicorn's protocol it looks like the cycle of an ASGI request."""

    __slots__ = ("connection", "head")

    message_event = _NoEvent()

    def __init__(self, connection: Connection, head: Head, body: bytes) -> None:
        super().__init__(body, head.options)
        self.connection = connection
        self.head = head

    @property
    def response_complete(self) -> bool:
        return self.settled

    def begin(self) -> None:
        """The body is whole."""
        connection, head = self.connection, self.head
        try:
            connection.door.dispatcher.submit(head.ref, head.caller or connection.address, self)
        except PrismError as error:
            self.settled = True
            self.failed(error)

    def answered(self, reply: Reply) -> None:
        request_id = self.head.request_id or self.connection.door.new_request_id()
        try:
            body = answer_body(self, reply, request_id)
        except PrismError as error:
            self.failed(error)
        else:
            self.connection.respond(reply.status, content_type(reply), request_id, answer_headers(self, reply), body)

    def failed(self, error: PrismError) -> None:
        request_id = self.head.request_id or self.connection.door.new_request_id()
        body = msgspec.json.encode({**error.problem(), "request_id": request_id.decode()})
        lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items())
        self.connection.respond(error.status, PROBLEM_JSON, request_id, lines.encode("latin-1"), body)


class Connection(HttpToolsProtocol):
    """One client. `functools.partial(Connection, door)` is what uvicorn takes as its protocol class."""

    def __init__(
        self,
        door: Door,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.door = door
        self.address = ""
        self._raw_head = b""
        self._arriving = False  # a request has begun to arrive and is not whole
        self._in_head = False
        self._began = 0.0  # when it did
        self._received = 0  # bytes of it
        self._parts: list[bytes] = []  # of its body, if it is answered here
        self._quiet = False  # nothing has arrived since the last look
        self._closing = False
        self._watch: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else "unknown"
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._received_whole()
        if self._watch is not None:
            self._watch.cancel()
        if isinstance(self.cycle, Exchange):
            self.cycle.settled = True  # and so dropped from its queue
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._quiet = False
        if not self._arriving and (self.cycle is None or self.cycle.response_complete):
            end = data.find(b"\r\n\r\n") + 4
            raw = data[:end]
            head = self.door.heads.get(raw)
            if head is not None and len(data) - end == head.length:
                exchange: Any = Exchange(self, head, data[end:])
                self.cycle = exchange
                exchange.begin()
                return
            # A blank line before the request, which the parser skips, would make the wrong bytes its head.
            self._raw_head = raw if data.startswith(b"POST /models/") else b""
        else:
            self._raw_head = b""
        super().data_received(data)
        self._received += len(data)
        if self._arriving and self._deadline is None:
            self._wait_for_the_rest()
        if self._in_head and self._received > HEAD_LIMIT_BYTES:
            limit = f"The request's headers are over {HEAD_LIMIT_BYTES >> 10} KiB."
            self._refuse(HeadTooLarge(limit, hint="Send fewer or shorter ones."))

    def on_message_begin(self) -> None:
        self._arriving = self._in_head = True
        self._began = monotonic()
        self._received = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        head = self._plain_head()
        if head is None:
            super().on_headers_complete()
            return
        if self._raw_head:
            self.door.remember(self._raw_head, head, len(self.headers) + 1)
            self._raw_head = b""
        exchange: Any = Exchange(self, head, b"")
        self.cycle = exchange

    def _plain_head(self) -> Head | None:
        free = self.cycle is None or self.cycle.response_complete
        if not free or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        return self.door.read_head(self.url, self.headers)

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, Exchange):
            self._parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._received_whole()
        if isinstance(self.cycle, Exchange):
            self.cycle.body = b"".join(self._parts)
            self._parts.clear()
            self.cycle.begin()
        else:
            super().on_message_complete()

    def respond(self, status: int, kind: str, request_id: bytes, lines: bytes, body: bytes) -> None:
        """Write a whole answer. lines: further header lines, each with its line end."""
        transport = self.transport
        if transport.is_closing():
            return
        opening = self.door.opening(status, kind, self.server_state.default_headers)
        close = b"connection: close\r\n" if self._closing else b""
        transport.write(
            b"%b%b\r\n%b%bcontent-length: %d\r\n\r\n%b" % (opening, request_id, lines, close, len(body), body)
        )
        if self._closing:
            transport.close()
        elif self.pipeline or self.flow.read_paused:
            self.on_response_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the keep-alive timer: one that is set and cancelled for each request costs too much."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not self.flow.write_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def shutdown(self) -> None:
        self._closing = True
        if not isinstance(self.cycle, Exchange) or self.cycle.settled:
            super().shutdown()

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read from either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def _look(self) -> None:
        """Ends a connection on which nothing happened since the last look; else looks again later."""
        if self._quiet and not self._arriving and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
            return
        self._quiet = True
        self._watch = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _wait_for_the_rest(self) -> None:
        """Ends a request that takes too long to arrive: the allowed time, and more for what has come of it."""
        seconds = self.door.receive_timeout_seconds
        left = self._began + seconds + self._received / RECEIVE_BYTES_PER_SECOND - monotonic()
        if left > 0:
            self._deadline = self.loop.call_later(max(0.05, left), self._wait_for_the_rest)
        else:
            late = f"The request was not received within {seconds:g} s."
            self._refuse(RequestTimeout(late, hint="Send it in one go."))

    def _received_whole(self) -> None:
        self._arriving = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, error: PrismError) -> None:
        """End the connection in the middle of a request; say why unless an answer is on its way already."""
        cycle: Any = self.cycle
        speaking = cycle is not None and not cycle.response_complete and not isinstance(cycle, Exchange)
        self._closing = True
        if not self.pipeline and not (speaking and cycle.response_started):
            Exchange(self, Head("", 0, 0, ""), b"").failed(error)
        self.transport.close()
