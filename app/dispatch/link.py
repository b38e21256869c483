"""The persistent connection to a replica: frames out, frames in, nothing about what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from app.core.model import Replica
from app.dispatch.replica_socket import held
from app.errors import ReplicaTimeout, ReplicaUnavailable
from model_container import frames
from model_container.frames import Answer, Asked, Frame, Request

Reply = Callable[["Batch | None"], None]
AnyLink = TypeVar("AnyLink", bound="Link")


class Batch(msgspec.Struct, frozen=True):
    """(body, status, form) in the order of the requests; times as the runtime measured them."""

    answers: list[tuple[bytes, int, int]]
    codec_us: int
    model_us: int


class Link(asyncio.Protocol):
    """One connection. `lost` is called once when it ends; then every waiting reply gets None.

    welcome: what the runtime said of itself, see model_container/runtime.py.
    """

    def __init__(self, token: str, lost: Callable[[], None] = lambda: None) -> None:
        self._token = token
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._reader = frames.FrameReader()
        self._replies: dict[int, Reply] = {}
        self._pongs: list[asyncio.Future[dict[str, Any]]] = []
        self._next_id = 1
        self._ended = asyncio.Event()
        self.welcomed: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        hello = msgspec.json.encode({"protocol": frames.PROTOCOL, "token": self._token})
        self._transport.write(frames.encode(0, frames.HELLO, hello))

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except (frames.FrameError, msgspec.DecodeError):
            self.close()

    def _take(self, frame: Frame) -> None:
        if frame.kind == frames.ANSWERS:
            reply = self._replies.pop(frame.id, None)
            if reply is not None:
                reply(Batch(*frames.decode_answers(frame)))
        elif frame.kind == frames.PONG and self._pongs:
            pong = self._pongs.pop(0)
            if not pong.done():
                pong.set_result(msgspec.json.decode(frame.payload))
        elif frame.kind == frames.WELCOME and not self.welcomed.done():
            self.welcomed.set_result(msgspec.json.decode(frame.payload))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.welcomed.done():
            self.welcomed.set_exception(ReplicaUnavailable("The replica closed the connection before its welcome."))
            self.welcomed.exception()  # looked at, so that an abandoned start does not warn
        for pong in self._pongs:
            pong.cancel()
        self._ended.set()
        self._lost()
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            reply(None)

    def send(self, requests: Sequence[Asked], reply: Reply) -> None:
        """`reply` gets the batch, or None if the connection ends first; never raises."""
        if self._transport is None:
            reply(None)
        else:
            self._transport.write(frames.encode_requests(self._expect(reply), requests))

    def _expect(self, reply: Reply) -> int:
        """The id of the next frame, whose answer goes to `reply`."""
        frame_id = self._next_id
        self._next_id = frame_id % 0xFFFFFFFF + 1
        self._replies[frame_id] = reply
        return frame_id

    async def _awaited(self, encode: Callable[[int], bytes]) -> Batch:
        """The answer to the frame that `encode` makes for an id. Raises ReplicaUnavailable if none comes."""
        if self._transport is None:
            raise ReplicaUnavailable("The connection to the replica is closed.")
        answered: asyncio.Future[Batch | None] = asyncio.get_running_loop().create_future()
        frame_id = self._expect(lambda batch: None if answered.done() else answered.set_result(batch))
        self._transport.write(encode(frame_id))
        batch = await answered
        if batch is None:
            raise ReplicaUnavailable("The replica closed the connection before it answered.")
        return batch

    async def predict(self, request: Request) -> Answer:
        """A batch of one, awaited. Raises ReplicaUnavailable if the connection ends first."""
        batch = await self._awaited(lambda frame_id: frames.encode_requests(frame_id, [request]))
        return Answer(*batch.answers[0])

    async def convert(self) -> tuple[bytes, bytes]:
        """Have the replica convert its model: the report as JSON, and the ONNX file, empty if there is none.

        Takes as long as it takes; bound the wait yourself. Raises ReplicaUnavailable if the connection ends first.
        """
        batch = await self._awaited(lambda frame_id: frames.encode(frame_id, frames.CONVERT))
        if len(batch.answers) != 2:
            raise ReplicaUnavailable("The replica sent an answer that is no conversion.")
        (report, *_), (file, *_) = batch.answers
        return report, file

    async def ping(self) -> dict[str, Any]:
        """What PONG says. Raises ReplicaUnavailable if the connection ends first; bound the wait yourself."""
        if self._transport is None:
            raise ReplicaUnavailable("The connection to the replica is closed.")
        pong: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._transport.write(frames.encode(0, frames.PING))
        try:
            return await pong
        except asyncio.CancelledError:
            if pong.cancelled() and self._transport is None:
                raise ReplicaUnavailable("The replica closed the connection.") from None
            raise

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Close, and return once nothing of the connection is left."""
        if self._transport is not None:
            self._transport.abort()
            await self._ended.wait()


async def connect(replica: Replica, timeout_seconds: float, lost: Callable[[], None] = lambda: None) -> Link:
    """A link whose replica has loaded its model and said so; see `welcomed`."""
    return await welcomed(Link(replica.token, lost), replica, timeout_seconds)


async def welcomed(link: AnyLink, replica: Replica, timeout_seconds: float) -> AnyLink:
    """The link, connected to a replica that has loaded its model and said so.

    Raises ReplicaUnavailable if nobody listens or the token is refused, ReplicaTimeout past the time.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            if replica.socket:
                with held(replica.socket, replica.id) as socket:
                    await loop.create_unix_connection(lambda: link, socket)
            else:
                await loop.create_connection(lambda: link, "127.0.0.1", replica.port)
            await asyncio.shield(link.welcomed)
    except TimeoutError as error:
        await link.wait_closed()
        raise ReplicaTimeout(f"The replica of {replica.model_id} was silent for {timeout_seconds:g} s.") from error
    except OSError as error:
        raise ReplicaUnavailable(f"The replica of {replica.model_id} does not accept connections: {error}.") from error
    except asyncio.CancelledError:
        await link.wait_closed()
        raise
    return link
