"""The protocol door: predict requests answered where they arrive, everything else handed to the ASGI application.

uvicorn takes the class by `http=`. It is uvicorn's own httptools protocol, but for requests that are plainly
`POST /models/{ref}/predict` or `/v2/models/{name}/infer` with a Content-Length: these never become an ASGI scope, a
task or a FastAPI route. Whatever is unusual about a request (an odd header, a bad key, a wrong host, pipelining,
chunks) makes it take the other door, which answers the same, only slower; so nothing here decides what a request may
not do.

The head of a request is read once: clients repeat theirs byte for byte, so a head that was read, found plain and
allowed is remembered, and the next one that equals it needs no parsing.

It also bounds what uvicorn leaves open: how long a request may take to arrive, how large its head and trailers may
be, how many may be sent ahead, how long an answer may lie untaken; and what is wrong never overtakes an answer.
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
from app.error_shapes import error_for_path, is_native_path
from app.errors import BadInput, HeadTooLarge, PrismError, RequestTimeout

HEAD_LIMIT_BYTES = 1 << 16
PATHS = (b"POST /models/", b"POST /v2/models/")
"""With these begins what the door answers itself."""

RECEIVE_BYTES_PER_SECOND = 1024
"""A sender that is not slower than this may take as long as its body needs."""

HEADS_A_TURN = 16
"""Requests of one connection that are read in one turn of the loop, and wait for those ahead of them. Who sends
hundreds ahead waits for all others in between; what is 18 bytes on the wire takes 3 KiB once it is read."""

FEW_BYTES = 1024
"""So much that arrives at once holds too few requests to be counted."""

LINGER_SECONDS = 1.0
"""How long what still comes is thrown away after a refusal. A close with bytes unread makes the client's system drop
the refusal before the client has read it (RFC 9112, 9.6)."""

FORESEEN = (PrismError, httptools.HttpParserError, httptools.HttpParserUpgrade)
"""What may have gone before a request that cannot be read, without being a defect of ours."""


class HoldingFlow(FlowControl):
    """uvicorn's flow control, which resumes no reading while something that was read waits: requests behind the one that
    is being answered, or bytes that are held back. Else each answer would let more in than it takes away.

    held: whether bytes are. ahead: the requests that wait.
    """

    held = False

    def __init__(self, transport: asyncio.Transport, ahead: Sized) -> None:
        super().__init__(transport)
        self._ahead = ahead

    def resume_reading(self) -> None:
        if not self.held and not self._ahead:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One client. `functools.partial(Connection, door)` is what uvicorn takes as its protocol class."""

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
        self.address = ""
        self.heads = door.heads
        self._held = b""  # read, and left to later turns of the loop
        self._blocked = False  # what arrives is held, or thrown away
        self._raw_head = b""
        self._arriving = False  # a request has begun to arrive and is not whole
        self._in_head = False
        self._began = 0.0  # when it did
        self._received = 0  # bytes of it
        self._bare = 0  # bytes of it since the last that belonged to its body
        self._head_bytes = 0  # bytes of its header lines
        self._segment = 0  # bytes that the parser was fed last
        self._body = bytearray()  # if it is answered here
        self._quiet = True  # no request has arrived since the last look
        self._unread = 0  # bytes that were written and not taken by the client, at the last look
        self._closing = False
        self._refused = False  # nothing more is read
        self._watch: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: HoldingFlow = HoldingFlow(transport, self.pipeline)
        self.address = self.client[0] if self.client else "unknown"
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
            self.cycle.settled = True  # and so dropped from its queue
        super().connection_lost(exc)
        if isinstance(self.cycle, PredictExchange):
            self.cycle = None  # they hold each other, and collections are rare

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
            # A blank line before the request, which the parser skips, would make the wrong bytes its head.
            self._raw_head = raw if data.startswith(PATHS) else b""
        else:
            self._raw_head = b""
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Parse what has arrived, a few requests at once; what is behind them waits for the loop's next turn."""
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
        """How many are to come of a body that is answered here."""
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
            # Java's client offers h2c with each first request. It is declined by going on without (RFC 9110, 7.8);
            # the parser, which knows no declining, would take the request's body for the next request.
            # So would it drop a last request, after which it expects no more; a new one begins with it.
            self._raw_head = b""
            rest = self._head_without_upgrade() + data[offered.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's is
            self._parse(rest)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if cause is not None and not isinstance(cause, FORESEEN):
                self.logger.error("A request could not be read.", exc_info=cause)
            invalid = BadInput("The request is not valid HTTP/1.1.", hint="Send it with an HTTP client or library.")
            self._refuse(cause if isinstance(cause, PrismError) else invalid)

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % line for line in self.headers if line[0] != b"upgrade"]
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
        if self._in_head:  # trailers say nothing here
            self._head_bytes += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) + self._head_bytes > HEAD_LIMIT_BYTES:
            raise head_too_large()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise BadInput("This server opens no tunnels.", hint="Send the request itself.")
            return
        raw, self._raw_head = self._raw_head, b""
        head = self._plain_head()
        if head is None:
            if httptools.parse_url(self.url).path is None:  # which uvicorn takes to be there
                raise BadInput("The request's target has no path.", hint="Ask for `/`, or for something below it.")
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
        if self._in_head:  # an upgrade was offered: the request is yet to be read as one without
            return
        self._received_whole()
        if isinstance(self.cycle, PredictExchange):
            self.cycle.body = bytes(self._body)
            self._body = bytearray()
            self.cycle.begin()
        else:
            super().on_message_complete()

    def respond(self, status: int, kind: str, request_id: str, lines: str, body: bytes) -> None:
        """Write a whole answer. lines: further header lines, each with its line end."""
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
        """End the connection behind its last answer; after a refusal not before the client could read it."""
        if not self._refused:
            self.transport.close()
            return
        self.flow.held = False
        self.flow.resume_reading()
        self.transport.write_eof()
        self._linger = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the keep-alive timer: one that is set and cancelled for each request costs too much."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._began = monotonic()  # of the next one, which was not read until now
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
        """A client that does not read its answers is not read from either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def _look(self) -> None:
        """Ends a connection on which nothing happened since the last look; else looks again later."""
        answered = self.cycle is None or self.cycle.response_complete
        waits_for_client = self.flow.write_paused or self.transport.is_closing()
        idle = waits_for_client or (answered and not self._arriving)
        unread = self.transport.get_write_buffer_size()
        if idle and self._quiet and unread == self._unread:
            if unread:  # its client does not take its answer, and a close would wait for that
                self.transport.abort()
            else:
                self.transport.close()
            return
        self._quiet, self._unread = idle, unread
        self.heads = self.door.heads_for(self.address)
        self._watch = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _check_receive_deadline(self) -> None:
        """Ends a request that takes too long to arrive: the allowed time, and more for what has come of it."""
        seconds = self.door.receive_timeout_seconds
        if self.flow.read_paused and not self.flow.write_paused:
            self._began = monotonic()  # it is the server that does not read on
        left = self._began + seconds + self._received / RECEIVE_BYTES_PER_SECOND - monotonic()
        if left > 0:
            self._deadline = self.loop.call_later(max(0.05, left), self._check_receive_deadline)
        else:
            late = f"The request was not received within {seconds:g} s."
            self._refuse(RequestTimeout(late, hint="Send it in one go."))

    def _received_whole(self) -> None:
        self._arriving = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, error: PrismError) -> None:
        """End the connection in the middle of a request. Those ahead of it are still answered; then it is said why,
        unless they or an answer that is on its way leave no place for it."""
        cycle: Any = self.cycle
        has_cycle = self._arriving and not self._in_head
        self._received_whole()
        self._closing = self._refused = self._blocked = True
        self._held = b""
        if has_cycle and self.pipeline:
            self.pipeline.popleft()  # it came last
            self.flow.pause_reading()
        elif not has_cycle and cycle is not None and not cycle.response_complete:
            self.flow.pause_reading()
        elif has_cycle and not isinstance(cycle, PredictExchange) and cycle.response_started:
            self.transport.close()
        else:
            self._send_error(error)

    def _send_error(self, error: PrismError) -> None:
        """In the form of the path that is asked, as far as it was read."""
        path = self.url.partition(b"?")[0].decode("latin-1")
        if is_native_path(path):
            PredictExchange(self, CachedHead("", 0, 0, ""), b"").failed(error)
            return
        problem = self.door.problem(error)
        told, kind = error_for_path(path, problem.document)
        self.respond(error.status, kind, self.door.new_request_id(), problem.lines, msgspec.json.encode(told))


def head_too_large() -> HeadTooLarge:
    limit = f"The request's headers are over {HEAD_LIMIT_BYTES >> 10} KiB."
    return HeadTooLarge(limit, hint="Send fewer or shorter ones.")


def end_of_heads(data: bytes, most: int) -> int:
    """The place behind that many blank lines; the end where there are fewer."""
    place = 0
    for _ in range(most):
        found = data.find(b"\r\n\r\n", place)
        if found < 0:
            return len(data)
        place = found + 4
    return place
