"""The HTTP protocol class: it answers plain predict requests and hands all others to the ASGI application.

uvicorn takes the class by `http=`. It extends uvicorn's own httptools protocol with a fast path: a request that is
plainly `POST /models/{ref}/predict` or `/v2/models/{name}/infer` with a Content-Length never becomes an ASGI scope, a
task or a FastAPI route. A request with anything unusual about it (an odd header, a wrong key, a wrong host, pipelining,
a chunked body) goes to the ASGI application, which gives the same answer, only more slowly. So nothing here decides
what a request may not do.

The head of a request is parsed once. Clients repeat their heads byte for byte, so a head that was parsed, found plain
and admitted is cached, and the next request with an equal head needs no parsing.

The class also bounds what uvicorn leaves unbounded: how long a request may take to arrive, how large its head and its
trailers may be, how many requests may be sent ahead, and how long an answer may wait to be read. An error never
overtakes an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from time import monotonic
from typing import Any

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.dispatch.exchange import PredictExchange, V2Exchange
from app.dispatch.head_cache import CachedHead, HeadCache
from app.error_shapes import native_error
from app.errors import BadInput, HeadTooLarge, PrismError, RequestTimeout

HEAD_LIMIT_BYTES = 1 << 16
PATHS = (b"POST /models/", b"POST /v2/models/")
"""A request that the fast path answers begins with one of these."""

RECEIVE_BYTES_PER_SECOND = 1024
"""A sender that is no slower than this may take as long as its body needs."""

HEADS_A_TURN = 16
"""How many requests of one connection are parsed in one turn of the event loop; they then wait for those ahead of them.
A client that sends hundreds of requests ahead waits for all other clients in between. A request of 18 bytes on the wire
takes 3 KiB once it is parsed.
"""

FEW_BYTES = 1024
"""A segment of at most this size holds too few requests to be worth counting."""

LINGER_SECONDS = 1.0
"""How long data that still arrives after a refusal is read and discarded. If a connection is closed with unread bytes,
the client's operating system drops the refusal before the client has read it (RFC 9112, 9.6).
"""

FORESEEN = (PrismError, httptools.HttpParserError, httptools.HttpParserUpgrade)
"""Exceptions that may be the context of a parser error without being a defect of this server."""


class HoldingFlow(FlowControl):
    """A flow control that does not resume reading while data that was already read still waits.

    uvicorn's own flow control resumes after every answer, so each answer would let in more than it takes away. This one
    waits for the requests behind the one being answered and for bytes that are held back.

    held: whether bytes are held back. ahead: the requests that wait.
    """

    held = False

    def __init__(self, transport: asyncio.Transport, ahead: Sized) -> None:
        super().__init__(transport)
        self._ahead = ahead

    def resume_reading(self) -> None:
        if not self.held and not self._ahead:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """The connection of one client. uvicorn gets `functools.partial(Connection, door)`, with a HeadCache as `door`."""

    def __init__(
        self,
        door: HeadCache,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.door = door
        self.address = self.direct_caller = ""
        self.heads = door.heads
        self._held = b""  # bytes that were read and are left for later turns of the event loop
        self._blocked = False  # arriving data is held back or discarded
        self._raw_head = b""
        self._arriving = False  # a request has begun to arrive and is incomplete
        self._in_head = False
        self._began = 0.0  # when the request began to arrive
        self._received = 0  # bytes of the request so far
        self._bare = 0  # bytes of the request since the last byte of its body
        self._head_bytes = 0  # bytes of the request's header lines
        self._segment = 0  # size of the bytes that the parser was fed last
        self._body = bytearray()  # the body of a request that the fast path answers
        self._quiet = True  # no request has arrived since the last idle check
        self._unread = 0  # bytes that the client had not read at the last idle check
        self._closing = False
        self._refused = False  # a request was refused; no more requests are parsed
        self._watch: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: HoldingFlow = HoldingFlow(transport, self.pipeline)
        self.address = self.client[0] if self.client else "unknown"
        self.direct_caller = self.door.direct_caller(self.address)
        self.heads = self.door.heads_for(self.address)
        self.door.connections.add(self)
        self._watch = self.loop.call_later(self.timeout_keep_alive, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.connections.discard(self)
        self._held = b""
        self._received_whole()
        for timer in (self._watch, self._linger):
            if timer is not None:
                timer.cancel()
        if isinstance(self.cycle, PredictExchange):
            self.cycle.settled = True  # the queue drops a settled request
        super().connection_lost(exc)
        if isinstance(self.cycle, PredictExchange):
            self.cycle = None  # breaks a reference cycle, as garbage collections are rare

    def data_received(self, data: bytes) -> None:
        if self._blocked:
            if not self._refused:
                self._hold(self._held + data)
            return
        if not self._arriving and (self.cycle is None or self.cycle.response_complete):
            end = data.find(b"\r\n\r\n") + 4
            raw = data[:end]
            head = self.heads.get(raw)
            if head is not None and len(data) - end == head.length:
                self._quiet = False
                exchange: Any = (PredictExchange if head.mark is None else V2Exchange)(self, head, data[end:])
                self.cycle = exchange
                exchange.begin()
                return
            # The parser skips a blank line before a request, so the wrong bytes would be cached as its head.
            self._raw_head = raw if data.startswith(PATHS) else b""
        else:
            self._raw_head = b""
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Parse the data that has arrived, a few requests at a time; the rest waits for the event loop's next turn."""
        few = len(data) <= max(FEW_BYTES, self._body_bytes_left())
        end = len(data) if few else end_of_heads(data, HEADS_A_TURN)
        if end == len(data):
            self._take(data)
            return
        self._take(data[:end])
        if not self._refused:
            self._hold(data[end:])
            self.loop.call_soon(self._read_on)

    def _body_bytes_left(self) -> int:
        """Return how many bytes are missing from a body that the fast path reads; 0 for any other request."""
        cycle: Any = self.cycle
        return cycle.head.length - len(self._body) if self._arriving and isinstance(cycle, PredictExchange) else 0

    def _hold(self, data: bytes) -> None:
        self._held = data
        self._blocked = self.flow.held = True
        self.flow.pause_reading()

    def _read_on(self) -> None:
        if not self._held or self.pipeline or self.transport.is_closing():
            return
        data, self._held = self._held, b""
        self._blocked = self.flow.held = False
        self._read(data)
        if not self.flow.write_paused:
            self.flow.resume_reading()

    def _take(self, data: bytes) -> None:
        self._parse(data)
        self._received += len(data)
        self._bare += len(data)
        if self._arriving and self._bare > HEAD_LIMIT_BYTES:
            self._refuse(head_too_large())
        elif self._arriving and self._deadline is None:
            self._check_receive_deadline()

    def _parse(self, data: bytes) -> None:
        if self._refused:
            return
        self._segment = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            # Java's client offers an upgrade to h2c with each first request. The server declines by answering in
            # HTTP/1.1 (RFC 9110, 7.8). The parser cannot decline: it would take the request's body for the next
            # request, and would drop a last request, after which it expects no more. So a new parser reads it.
            self._raw_head = b""
            rest = self._head_without_upgrade() + data[offered.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn's parser
            self._parse(rest)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if cause is not None and not isinstance(cause, FORESEEN):
                self.logger.error("A request could not be read.", exc_info=cause)
            invalid = BadInput("The request is not valid HTTP/1.1.", hint="Send it with an HTTP client or library.")
            self._refuse(cause if isinstance(cause, PrismError) else invalid)

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        self._arriving = self._in_head = True
        self._quiet = False
        self._began = monotonic()
        self._received = 0
        self._bare = -self._segment
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are ignored
            self._head_bytes += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) + self._head_bytes > HEAD_LIMIT_BYTES:
            raise head_too_large()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise BadInput("This server is not a proxy.", hint="Send the request directly to this server.")
            return
        raw, self._raw_head = self._raw_head, b""
        head = self._plain_head()
        if head is None:
            if httptools.parse_url(self.url).path is None:  # uvicorn assumes that there is one
                raise BadInput("The request target has no path.", hint="Request `/` or a path below it.")
            super().on_headers_complete()
        else:
            if raw:
                self.door.remember(raw, head, len(self.headers) + 1)
            exchange: Any = (PredictExchange if head.mark is None else V2Exchange)(self, head, b"")
            self.cycle = exchange
        self._in_head = False

    def _plain_head(self) -> CachedHead | None:
        free = self.cycle is None or self.cycle.response_complete
        if not free or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        return self.door.read_head(self.url, self.headers, self.address)

    def on_body(self, body: bytes) -> None:
        self._bare = -self._segment
        if isinstance(self.cycle, PredictExchange):
            self._body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._in_head:  # an upgrade was offered: the request is yet to be parsed without it
            return
        self._received_whole()
        if isinstance(self.cycle, PredictExchange):
            self.cycle.body = bytes(self._body)
            self._body = bytearray()
            self.cycle.begin()
        else:
            super().on_message_complete()

    def respond(self, status: int, kind: str, request_id: str, lines: str, body: bytes) -> None:
        """Write a complete answer. lines: further header lines, each with its line end."""
        transport = self.transport
        if transport.is_closing():
            return
        opening = self.door.opening(status, kind, self.server_state.default_headers)
        last = self._closing and not self.pipeline
        close = "connection: close\r\n" if last else ""
        head = f"{opening}{request_id}\r\n{lines}{close}content-length: {len(body)}\r\n\r\n"
        transport.write(head.encode("latin-1") + body)
        if last:
            self._close()
        elif self.pipeline or self.flow.read_paused:
            self.on_response_complete()

    def _close(self) -> None:
        """Close the connection after its last answer. After a refusal, wait until the client could read it."""
        if not self._refused:
            self.transport.close()
            return
        self.flow.held = False
        self.flow.resume_reading()
        self.transport.write_eof()
        self._linger = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        """Go on to the next request, as uvicorn's method does, but without the keep-alive timer.

        A timer that is set and cancelled for each request costs too much.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._began = monotonic()  # of the next request, which was not read until now
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._closing:
            self.transport.close()
            return
        if not self.flow.write_paused:
            self.flow.resume_reading()
        if self._held and not self.pipeline:
            self.loop.call_soon(self._read_on)

    def shutdown(self) -> None:
        self._closing = True
        if self._linger is not None:
            self.transport.close()
        elif not isinstance(self.cycle, PredictExchange) or self.cycle.settled:
            super().shutdown()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read its answers."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def _look(self) -> None:
        """Close the connection if nothing has happened on it since the last check; otherwise schedule another check."""
        answered = self.cycle is None or self.cycle.response_complete
        waits_for_client = self.flow.write_paused or self.transport.is_closing()
        idle = waits_for_client or (answered and not self._arriving)
        unread = self.transport.get_write_buffer_size()
        if idle and self._quiet and unread == self._unread:
            if unread:  # the client does not read its answer, and close() would wait for that
                self.transport.abort()
            else:
                self.transport.close()
            return
        self._quiet, self._unread = idle, unread
        self.heads = self.door.heads_for(self.address)
        self._watch = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _check_receive_deadline(self) -> None:
        """Refuse a request that takes too long to arrive.

        The allowed time is the receive timeout, plus a second for each KiB that has arrived.
        """
        seconds = self.door.receive_timeout_seconds
        if self.flow.read_paused and not self.flow.write_paused:
            self._began = monotonic()  # the server itself has paused reading
        left = self._began + seconds + self._received / RECEIVE_BYTES_PER_SECOND - monotonic()
        if left > 0:
            self._deadline = self.loop.call_later(max(0.05, left), self._check_receive_deadline)
        else:
            late = f"The request was not received within {seconds:g} s."
            self._refuse(RequestTimeout(late, hint="Send the whole request without pauses."))

    def _received_whole(self) -> None:
        self._arriving = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, error: PrismError) -> None:
        """Refuse the request that is arriving, and end the connection.

        Requests ahead of it are still answered. The error is sent after them, unless they or an answer under way leave
        no place for it.
        """
        cycle: Any = self.cycle
        has_cycle = self._arriving and not self._in_head
        self._received_whole()
        self._closing = self._refused = self._blocked = True
        self._held = b""
        if has_cycle and self.pipeline:
            self.pipeline.popleft()  # the refused request came last
            self.flow.pause_reading()
        elif not has_cycle and cycle is not None and not cycle.response_complete:
            self.flow.pause_reading()
        elif has_cycle and not isinstance(cycle, PredictExchange) and cycle.response_started:
            self.transport.close()
        else:
            self._send_error(error)

    def _send_error(self, error: PrismError) -> None:
        """Send the error in the form of the requested path, as far as the path was read."""
        form = self.door.error_forms.form(self.url.partition(b"?")[0].decode("latin-1"))
        if form is native_error:
            PredictExchange(self, CachedHead("", 0, 0, ""), b"").failed(error)
            return
        problem = self.door.problem(error)
        document, kind = form(problem.document)
        self.respond(error.status, kind, self.door.new_request_id(), problem.lines, msgspec.json.encode(document))


def head_too_large() -> HeadTooLarge:
    limit = f"The request's headers exceed {HEAD_LIMIT_BYTES >> 10} KiB."
    return HeadTooLarge(limit, hint="Send fewer or shorter headers.")


def end_of_heads(data: bytes, most: int) -> int:
    """Return the position after the `most`-th blank line, or the length of `data` if it has fewer."""
    place = 0
    for _ in range(most):
        end = data.find(b"\r\n\r\n", place)
        if end < 0:
            return len(data)
        place = end + 4
    return place
