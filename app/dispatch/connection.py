"""The persistent connection to a replica: it carries frames in both directions and knows nothing about their meaning.

A replica is not trusted: its model may write anything to this connection. A frame that was not requested, is over its
size limit, holds an invalid answer or stalls ends the connection. `connection_lost` then settles at once whatever was
in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, cast

import msgspec
import structlog
from msgspec import Meta, Struct

from app.core.foreign_json import ForeignJsonError, read_json
from app.core.model import Replica
from app.core.os_errors import problem_of
from app.dispatch.replica_socket import held
from app.errors import ReplicaProtocolError, ReplicaTimeout, ReplicaUnavailable, TooManyOpenFiles
from model_container.contract import frames
from model_container.contract.frames import Answer, Asked, Frame, FrameError, Request

log = structlog.get_logger(__name__)

Reply = Callable[["Batch | None"], None]
AnyConnection = TypeVar("AnyConnection", bound="ReplicaConnection")

WELCOME_BYTES_MAX = 4 << 20
WELCOME_PARTS_MAX = 200_000
"""The most lists and objects in a welcome: reading more would hold up every model. A table of 40,000 columns has about
120,000."""

"""The largest WELCOME frame; the signature of a table with 40,000 columns takes 3 MiB."""

PONG_BYTES_MAX = 4096
CONVERSION_ANSWERS = 2
CONVERSION_BYTES_MAX = 256 << 20
FRAMES_A_TURN = 32
"""How many frames are taken before other tasks have their turn of the event loop. A stream of small items can bring
thousands.
"""

LOOP_LAG_SECONDS = 0.5
"""A timer that fires later than this means that the server itself was stalled."""


class WireLimits(Struct, frozen=True):
    """Bounds on what a replica may send. stall_seconds: how long a frame that has begun may stall."""

    max_answer_bytes: int = 64 << 20
    stall_seconds: float = 3.0


WIRE_LIMITS = WireLimits()


class Pulse(Struct, frozen=True):
    """The content of a PONG frame. busy_ms: how long the current prediction has taken, 0 when idle."""

    busy_ms: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


class Greeting(Struct, frozen=True):
    """The part of WELCOME that dispatch reads. streams: whether the runtime knows STREAM."""

    streams: bool = False


class Batch(Struct, frozen=True):
    """The answers of a batch.

    answers: (body, status, form) in the order of the requests. Times are as the runtime measured them.
    """

    answers: list[tuple[bytes, int, int]]
    codec_us: int
    model_us: int


class ReplicaConnection(asyncio.Protocol):
    """A connection to a replica. `lost` is called once when it ends; then every pending reply gets None.

    welcomed: done once the replica has loaded its model and sent WELCOME. fault: how the replica broke the protocol, ""
    if it did not.
    """

    def __init__(self, token: str, lost: Callable[[], None] = lambda: None, limits: WireLimits = WIRE_LIMITS) -> None:
        self._token = token
        self._lost = lost
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._reader = frames.FrameReader(self._limit)
        self._expected: dict[int, tuple[Reply, int, int]] = {}  # reply, number of answers, most bytes of one answer
        self._pongs: list[asyncio.Future[Pulse]] = []
        self._next_id = 1
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._moved_at = 0.0  # when bytes of an incomplete frame last arrived
        self._stall: asyncio.TimerHandle | None = None
        self._welcome = b""
        self.welcomed: asyncio.Future[Greeting] = self._loop.create_future()
        self.fault = ""

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def welcome(self) -> dict[str, Any]:
        """Return what the runtime reported about itself; see model_container/runtime.py.

        Raises ReplicaProtocolError.
        """
        if self._welcome.count(b"[") + self._welcome.count(b"{") > WELCOME_PARTS_MAX:
            raise ReplicaProtocolError(
                f"The replica's handshake has more than {WELCOME_PARTS_MAX:,} lists and objects."
            )
        try:
            return cast(dict[str, Any], read_json(self._welcome, dict[str, Any]))
        except ForeignJsonError as error:
            raise ReplicaProtocolError(f"The replica's handshake cannot be read: {error}.") from None

    def error_at_its_end(self, otherwise: str) -> ReplicaUnavailable:
        """Return why the connection ended, as an error. otherwise: its text if the replica kept to the protocol."""
        return ReplicaProtocolError.of(self.fault) if self.fault else ReplicaUnavailable(otherwise)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        hello = {
            "protocol": frames.PROTOCOL,
            "token": self._token,
            "max_answer_bytes": self._limits.max_answer_bytes,
        }
        self._transport.write(frames.encode(0, frames.HELLO, msgspec.json.encode(hello)))

    def data_received(self, data: bytes) -> None:
        try:
            taken = self._reader.feed(data, FRAMES_A_TURN)
            for frame in taken:
                self._take(frame)
        except (FrameError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._break(str(error))
        except Exception:  # a defect of this server, which must not leave other requests without an answer
            log.exception("an answer of a replica could not be processed")
            self._break("its answer could not be processed")
        else:
            if self._reader.buffer:
                self._await_rest(len(taken))

    def _take(self, frame: Frame) -> None:
        """Process one frame. Raises what `data_received` treats as a breach of the protocol."""
        if frame.kind == frames.ANSWERS:
            self._take_answers(frame)
            return
        if len(frame.payload) > self._limit(frame.id, frame.kind):
            raise FrameError(f"a frame of kind {frame.kind} has {len(frame.payload)} bytes, which is over its limit")
        if frame.kind == frames.PONG:
            pulse = msgspec.json.decode(frame.payload, type=Pulse)
            pong = self._pongs.pop(0)
            if not pong.done():
                pong.set_result(pulse)
        elif frame.kind == frames.WELCOME:
            greeting = msgspec.json.decode(frame.payload, type=Greeting)
            self._welcome = frame.payload
            self.welcomed.set_result(greeting)

    def _take_answers(self, frame: Frame) -> None:
        expected = self._expected.get(frame.id)
        if expected is None:
            raise FrameError("answers came without a request")
        if frame.items != expected[1]:
            raise FrameError(f"{frame.items} answers came to {expected[1]} requests")
        batch = Batch(*frames.decode_answers(frame))
        del self._expected[frame.id]
        expected[0](batch)

    def _limit(self, frame_id: int, kind: int) -> int:
        """Return the largest payload that such a frame may have now.

        Raises FrameError for a frame that was not requested.
        """
        expected = self._expected.get(frame_id)
        if kind == frames.ANSWERS and expected is not None:
            return frames.answers_bytes_max(expected[1], expected[2])
        if kind == frames.PONG and self._pongs:
            return PONG_BYTES_MAX
        if kind == frames.WELCOME and not self.welcomed.done():
            return WELCOME_BYTES_MAX
        raise FrameError(f"a frame of kind {kind} came without a request")

    def _break(self, fault: str) -> None:
        """End a connection whose replica broke the protocol."""
        if not self.fault:
            self.fault = fault
            log.warning("a replica broke the protocol", fault=fault)
        self.close()

    def _await_rest(self, taken: int) -> None:
        """Leave the remaining frames for another turn of the event loop, or time the rest of an incomplete frame."""
        if taken == FRAMES_A_TURN:
            self._pause()
            self._loop.call_soon(self._go_on)
            return
        self._moved_at = self._loop.time()
        if self._stall is None:
            self._look_again_at(self._moved_at + self._limits.stall_seconds)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Process the frames that were left for another turn; resume reading once none is left."""
        if not self._paused or not self.open:
            return
        self._paused = False
        self.data_received(b"")
        if not self._paused and self._transport is not None and self.open:
            self._transport.resume_reading()

    def _look_again_at(self, due: float) -> None:
        self._stall = self._loop.call_at(due, self._look_for_rest, due)

    def _look_for_rest(self, due: float) -> None:
        """End a connection on which a frame stalls; a heartbeat on another connection does not reveal that."""
        self._stall = None
        if not self.open or not self._reader.buffer or self._paused:
            return
        now = self._loop.time()
        if now - due > LOOP_LAG_SECONDS:  # the server itself was stalled and read nothing
            self._moved_at = now
        if now - self._moved_at < self._limits.stall_seconds:
            self._look_again_at(self._moved_at + self._limits.stall_seconds)
        else:
            self._break(f"a frame made no progress for {self._limits.stall_seconds:g} s")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._reader = frames.FrameReader()  # breaks a reference cycle, as garbage collections are rare
        if self._stall is not None:
            self._stall.cancel()
        if not self.welcomed.done():
            self.welcomed.set_exception(
                self.error_at_its_end("The replica closed the connection before its handshake.")
            )
            self.welcomed.exception()  # retrieved, so that asyncio does not warn about an abandoned start
        for pong in self._pongs:
            pong.cancel()
        self._ended.set()
        self._lost()
        expected, self._expected = self._expected, {}
        for reply, _, _ in expected.values():
            reply(None)

    def send(self, requests: Sequence[Asked], reply: Reply) -> None:
        """Send a batch. `reply` gets the answers, or None if the connection ends first. Never raises."""
        if self._transport is None:
            reply(None)
        else:
            frame_id = self._expect(reply, len(requests), self._limits.max_answer_bytes)
            self._transport.write(frames.encode_requests(frame_id, requests))

    def _expect(self, reply: Reply, answers: int, answer_bytes_max: int) -> int:
        """Return the id of the next frame, and route its answer to `reply`."""
        frame_id = self._next_id
        self._next_id = frame_id % 0xFFFFFFFF + 1
        self._expected[frame_id] = reply, answers, answer_bytes_max
        return frame_id

    async def _awaited(self, encode: Callable[[int], bytes], answers: int, answer_bytes_max: int) -> Batch:
        """Send the frame that `encode` makes for an id; return the answer. Raises ReplicaUnavailable if none comes."""
        if self._transport is None:
            raise ReplicaUnavailable("The connection to the replica is closed.")
        answered: asyncio.Future[Batch | None] = self._loop.create_future()
        frame_id = self._expect(
            lambda batch: None if answered.done() else answered.set_result(batch), answers, answer_bytes_max
        )
        self._transport.write(encode(frame_id))
        batch = await answered
        if batch is None:
            raise self.error_at_its_end("The replica closed the connection before it answered.")
        return batch

    async def predict(self, request: Request) -> Answer:
        """Send a batch of one request and await its answer. Raises ReplicaUnavailable if the connection ends first."""
        batch = await self._awaited(
            lambda frame_id: frames.encode_requests(frame_id, [request]), 1, self._limits.max_answer_bytes
        )
        return Answer(*batch.answers[0])

    async def convert(self) -> tuple[bytes, bytes]:
        """Have the replica convert its model.

        Returns the report as JSON and the ONNX file, which is empty if there is none.

        The wait has no time limit; bound it yourself. Raises ReplicaUnavailable if the connection ends first.
        """
        batch = await self._awaited(
            lambda frame_id: frames.encode(frame_id, frames.CONVERT), CONVERSION_ANSWERS, CONVERSION_BYTES_MAX
        )
        (report, *_), (file, *_) = batch.answers
        return report, file

    async def ping(self) -> Pulse:
        """Ask for a heartbeat, and return the PONG. The wait has no time limit; bound it yourself.

        Raises ReplicaUnavailable if the connection ends first.
        """
        if self._transport is None:
            raise ReplicaUnavailable("The connection to the replica is closed.")
        pong: asyncio.Future[Pulse] = self._loop.create_future()
        self._pongs.append(pong)
        self._transport.write(frames.encode(0, frames.PING))
        try:
            return await pong
        except asyncio.CancelledError:
            if pong.cancelled() and self._transport is None:
                raise self.error_at_its_end("The replica closed the connection.") from None
            raise

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Close the connection, and return once nothing of it is left."""
        if self._transport is not None:
            self._transport.abort()
            await self._ended.wait()


async def connect(
    replica: Replica,
    timeout_seconds: float,
    lost: Callable[[], None] = lambda: None,
    limits: WireLimits = WIRE_LIMITS,
) -> ReplicaConnection:
    """Connect to a replica and wait until it has loaded its model; see `ReplicaConnection.welcomed`.

    Raises what `handshake` raises.
    """
    return await handshake(ReplicaConnection(replica.token, lost, limits), replica, timeout_seconds)


async def handshake(connection: AnyConnection, replica: Replica, timeout_seconds: float) -> AnyConnection:
    """Connect `connection` to a replica, and return it once the replica has loaded its model and sent WELCOME.

    Raises ReplicaUnavailable if nothing listens or the token is refused, ReplicaProtocolError if the other side is not
    a replica of PRISM, ReplicaTimeout if it takes longer than `timeout_seconds`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            address = replica.address
            if address.socket:
                with held(address.socket, replica.id) as socket:
                    await loop.create_unix_connection(lambda: connection, socket)
            else:
                await loop.create_connection(lambda: connection, address.host, address.port)
            await asyncio.shield(connection.welcomed)
    except TimeoutError as error:
        await connection.wait_closed()
        raise ReplicaTimeout(f"The replica of {replica.model_id} was silent for {timeout_seconds:g} s.") from error
    except OSError as error:
        if isinstance(own := problem_of(error), TooManyOpenFiles):  # a limit of this server
            raise own from error
        raise ReplicaUnavailable(f"The replica of {replica.model_id} does not accept connections: {error}.") from error
    except asyncio.CancelledError:
        await connection.wait_closed()
        raise
    return connection
