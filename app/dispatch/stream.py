"""A prediction that is answered item by item, over a replica connection of its own.

Items are read only as fast as the client takes them. Unread items fill the sockets in between, the runtime waits in its
send, and the model makes no further item. A stream shares nothing with other requests: it is never batched, and it is
never retried once an item has come.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import structlog

from app.access.rate_limit import Allowance
from app.dispatch.batch import Lane
from app.dispatch.connection import Batch, ReplicaConnection, WireLimits, handshake
from app.dispatch.replica import CONNECT_TIMEOUT_SECONDS, ReplicaClient
from app.dispatch.response import RESCUED
from app.dispatch.suspects import crash_error
from app.errors import PrismError, ReplicaTimeout, ReplicaUnavailable, Unavailable
from model_container.contract import frames
from model_container.contract.frames import Answer, Frame, FrameError, Request

log = structlog.get_logger(__name__)

TRIES = 2


class StreamConnection(ReplicaConnection):
    """A connection that carries one request. heard: set while an item, or the end, can be taken."""

    def __init__(self, token: str, limits: WireLimits) -> None:
        super().__init__(token, limits=limits)
        self.end: Batch | None = None
        self.is_over = False
        self.heard = asyncio.Event()
        self._items: list[bytes] = []

    def ask(self, request: Request) -> None:
        """Send the request. Raises ReplicaUnavailable if the connection has ended."""
        if self._transport is None:
            raise ReplicaUnavailable("The replica closed the connection before the request was sent.")
        frame_id = self._expect(self._over, 1, self._limits.max_answer_bytes)
        self._transport.write(frames.encode_requests(frame_id, [request], frames.STREAM))

    def take(self) -> list[bytes]:
        """Return the items that came since the last call. Only now is more read."""
        items, self._items = self._items, []
        if not self.is_over:
            self.heard.clear()
        if self._paused:
            self._loop.call_soon(
                self._go_on
            )  # in a turn of its own: an item that is already buffered must not end the wait
        return items

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._items and self.open:
            self._pause()

    def _go_on(self) -> None:
        if not self._items:
            super()._go_on()

    def _take(self, frame: Frame) -> None:
        if frame.kind != frames.PART:
            super()._take(frame)
            return
        if len(frame.payload) > self._limit(frame.id, frame.kind):
            raise FrameError(f"an item of a stream has {len(frame.payload)} bytes, which is over its limit")
        if not frame.payload or b"\n" in frame.payload or b"\r" in frame.payload:
            raise FrameError("an item of a stream is malformed")  # a line end would begin a new event
        self._items.append(frame.payload)
        self.heard.set()

    def _limit(self, frame_id: int, kind: int) -> int:
        if kind == frames.PART and frame_id in self._expected:
            return self._limits.max_answer_bytes
        return super()._limit(frame_id, kind)

    def _over(self, end: Batch | None) -> None:
        self.end, self.is_over = end, True
        self.heard.set()


class Stream:
    """The stream of one admitted request. Whoever begins it closes it.

    error, answer: how it ended, set once `is_over`: either the error on the way, or the runtime's answer, which is
    {"items": …} or a problem. items: how many came. allowance: the rate limit's allowance of its caller. rescued: the
    version that could not answer, so that another one does; "" if this is the version that was asked first.
    """

    rescued = ""

    def __init__(self, lane: Lane, request: Request, allowance: Allowance | None) -> None:
        """Enter the lane. Raises Overloaded or ReplicaUnavailable if the lane does not admit the stream."""
        self.lane = lane
        self.allowance = allowance
        self.items = 0
        self.error: PrismError | None = None
        self.answer: Answer | None = None
        self._request = request
        self._connection: StreamConnection | None = None
        self._client: ReplicaClient | None = None
        self._told_to_end = False
        self._was_asked = False
        self._closed = False
        self._arrived = self._waits_since = monotonic()
        lane.admit_stream(self, self._arrived)

    @property
    def client(self) -> ReplicaClient | None:
        """The client of the replica that answers the stream; None before it begins and once it has left the replica."""
        return self._client

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.answer is not None

    @property
    def has_failed(self) -> bool:
        return self.error is not None or (self.answer is not None and self.answer.form == frames.FORM_PROBLEM)

    async def first(self) -> list[bytes]:
        """Begin the stream, and return its first items; [] if there are none or if it failed, as `has_failed` tells.

        If the replica is lost before the first item, the stream is retried on another replica, once.
        """
        for tries in range(1, TRIES + 1):
            try:
                items = await self._begin()
                self.lane.tally.latency.observe([monotonic() - self._arrived])
                return items
            except PrismError as error:
                cause = await self._cause(error)
                may_repeat = not (self._was_asked and self.lane.endpoint.side_effects)
                if cause is not None or tries == TRIES or not may_repeat or not isinstance(error, ReplicaUnavailable):
                    self.end(cause or error)
                    break
        return []

    async def _cause(self, error: PrismError) -> PrismError | None:
        """Leave the replica. Return the error to report if this stream caused the replica's loss, else None."""
        client, was_asked = self._client, self._was_asked
        alone = client is not None and client.is_alone_with_stream(monotonic())
        self._leave_after(error)
        if client is None or not (alone and was_asked and isinstance(error, ReplicaUnavailable)):
            return None
        loss = await self.lane.loss_of(client)
        return crash_error(self.lane.endpoint.name, loss) if loss is not None and loss.by_itself else None

    def _leave_after(self, error: PrismError) -> None:
        if self._client is not None and isinstance(error, ReplicaUnavailable):
            self._client.stream_left_at = monotonic()
        self._leave()

    async def take(self, seconds: float) -> list[bytes]:
        """Return the next items; [] if none came within `seconds`, or the stream is over."""
        connection = self._connection
        if connection is None or self.is_over:
            return []
        left = self._waits_since + self.lane.flow.timeout_seconds - monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(seconds, left))):
                await connection.heard.wait()
        except TimeoutError:
            if seconds >= left:
                self.end(self._late())
            return []
        items = connection.take()
        if connection.is_over and not items:
            self._on_end(connection.end)
        self._waits_since = monotonic()
        self.items += len(items)
        return items

    async def _begin(self) -> list[bytes]:
        """Connect to a replica, send the request, and return the first items.

        Raises ReplicaUnavailable if the replica is lost before anything came from it, Unavailable if its runtime is too
        old.
        """
        client = await self._find_client()
        if client is None:
            return []
        self._client = client
        client.streams += 1
        self._connection = connection = await handshake(
            StreamConnection(client.replica.token, self.lane.flow.wire), client.replica, CONNECT_TIMEOUT_SECONDS
        )
        if not connection.welcomed.result().streams:
            raise Unavailable(
                f"The replica of `{self.lane.endpoint.name}` was started by a PRISM version without streams.",
                hint="Restart the model; if that does not help, upload it again.",
            )
        if self.is_over:
            return []
        connection.ask(self._request)
        self._was_asked = True
        items = await self.take(self.lane.flow.timeout_seconds)
        if connection.is_over and connection.end is None and not items and not self._told_to_end:
            error, self.error = self.error, None
            raise error or connection.error_at_its_end("The replica was lost.")
        return items

    async def _find_client(self) -> ReplicaClient | None:
        """Return the client of the replica to ask, waiting for one that is starting. None if the stream is over before.

        Raises ReplicaUnavailable if no replica is starting, ReplicaTimeout if none is ready in time.
        """
        try:
            async with asyncio.timeout(self._waits_since + self.lane.flow.timeout_seconds - monotonic()):
                while not self.is_over:
                    client = self.lane.replica_for_stream(monotonic())
                    if client is not None:
                        return client
                    await self.lane.changes()
        except TimeoutError:
            raise self._late() from None
        return None

    def _on_end(self, end: Batch | None) -> None:
        if end is None:
            if self.error is None and self._connection is not None:
                self.error = self._connection.error_at_its_end(f"The replica of `{self.lane.endpoint.name}` was lost.")
            return
        self.answer = Answer(*end.answers[0])
        self.lane.tally.model_seconds += end.model_us / 1_000_000

    def _late(self) -> ReplicaTimeout:
        what = "next item did" if self.items else "first item did"
        return ReplicaTimeout(
            f"`{self.lane.endpoint.name}`: the {what} not come within {self.lane.flow.timeout_seconds:g} s."
        )

    def end(self, error: PrismError) -> None:
        """End the stream with an error, and ask nothing more of the model. Does nothing once the stream is over.

        Whoever waits for an item gets the error.
        """
        if self.is_over:
            return
        self.error = error
        self._told_to_end = True
        if self._connection is not None:
            self._connection.close()  # this wakes whoever waits for an item
        self.lane.stir()

    def close(self) -> None:
        """Count the stream, and end the model's work on it. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        self._leave()
        self.lane.streams.discard(self)
        status = self.status
        if status:
            self.lane.tally.count([status])
            self.lane.tally.last_at = monotonic()
        if self.lane.flow.log_timings:
            took_ms = round((monotonic() - self._arrived) * 1000, 2)
            name = f"{self.lane.endpoint.name}@{self.lane.endpoint.version}"
            log.info("streamed", model=name, status=status, items=self.items, total_ms=took_ms)

    @property
    def status(self) -> int:
        """The HTTP status that describes how the stream ended; 0 if the client left before there was an answer."""
        if self.error is not None:
            return self.error.status
        if self.answer is not None:
            return self.answer.status
        return 200 if self.items else 0

    def _leave(self) -> None:
        client, self._client = self._client, None
        connection, self._connection = self._connection, None
        if client is not None:
            client.streams -= 1
            self._judge(client)
        if connection is not None:
            connection.close()

    def _judge(self, client: ReplicaClient) -> None:
        """Record the outcome in the replica's breaker, as for a batch.

        A request's own fault says nothing about the replica.
        """
        if self.answer is not None and self.answer.status >= 500:
            client.failed()
        elif self.items or self.answer is not None:
            client.breaker.succeed()
            client.has_answered = True


def end_document(stream: Stream) -> dict[str, Any]:
    """Return the document that a client gets after the last item."""
    endpoint = stream.lane.endpoint
    named = {"model": endpoint.name, "version": endpoint.version, "model_id": endpoint.model_id}
    return {**named, "items": stream.items}


def stream_headers(stream: Stream) -> dict[str, str]:
    """Return the header fields of a stream. They have no timing, as it is not known when the stream begins."""
    allowance = stream.allowance
    rescued = {RESCUED: stream.rescued} if stream.rescued else {}
    return {**stream.lane.version_headers, **rescued, **({} if allowance is None else allowance.headers)}


def shutting_down() -> Unavailable:
    return Unavailable("The server is shutting down.", hint="Try again when it is back.")
