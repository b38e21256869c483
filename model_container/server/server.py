"""Server of the runtime: one thread per connection, frames or HTTP by the first bytes, one prediction at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import msgspec

from model_container.adapters.base import Adapter
from model_container.batch import Batcher
from model_container.bodies.file_rows import FileRows
from model_container.contract.frames import (
    CONVERT,
    HELLO,
    MAX_PAYLOAD_BYTES,
    PING,
    PONG,
    PREDICT,
    PROTOCOL,
    STREAM,
    WELCOME,
    Answer,
    Frame,
    FrameError,
    FrameReader,
    Request,
    decode_requests,
    encode,
    encode_answers,
)
from model_container.server.answer_size import within
from model_container.server.receiver import SpinningReceiver
from model_container.server.stream import Items, Streamer
from model_container.server.turns import FairLock

HELLO_SECONDS = 10.0
STREAM_END_SECONDS = 2.0
"""Time for open streams to end when the runtime stops; after that they are cut off."""

MAX_HELLO_BYTES = 4096
_FIRST_BYTES = 4
_HTTP = frozenset((b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC"))
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Server:
    """Server of one adapter on any number of listening sockets, until `stop`."""

    def __init__(
        self,
        adapter: Adapter,
        welcome: Dict[str, Any],
        token: str,
        aliases: Mapping[str, str] = MappingProxyType({}),
        files: Optional[FileRows] = None,
    ) -> None:
        self.welcome = welcome
        self.aliases = aliases
        self.token = token
        self._adapter = adapter
        self._batcher = Batcher(adapter, files)
        self._turns = FairLock()
        self._predicting = self._turns.lock
        self._streamer = Streamer(adapter, self._batcher, self._turns.one, lambda: self._stopping)
        self._served = 0
        self._welcome_bytes = msgspec.json.encode(welcome, enc_hook=str)
        self._listeners: List[socket.socket] = []
        self._connections: Dict[threading.Thread, socket.socket] = {}
        self._changing = threading.Lock()
        self._stopping = False

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections in the background; returns at once."""
        self._listeners = list(listeners)
        for listener in listeners:
            threading.Thread(target=self._accept, args=(listener,), name="accept", daemon=True).start()

    def stop(self) -> None:
        """Refuse new work, answer every request that has arrived, then return."""
        with self._changing:
            self._stopping = True
            connections = dict(self._connections)
        for listener in self._listeners:
            listener.close()
        for connection in connections.values():
            _end_reading(connection)
        stuck = self._streamer.cut_off(STREAM_END_SECONDS)
        for thread in connections:
            if thread not in stuck:
                thread.join()

    def predict(self, requests: Sequence[Request]) -> Tuple[List[Answer], int, int]:
        """Predict a batch, see Batcher.run. Callers on several threads take turns."""
        turns = self._turns
        if not self._predicting.acquire(False):
            turns.wait()
        try:
            turns.busy_since = time.monotonic()
            return self._batcher.run(requests)
        finally:
            turns.busy_since = 0.0
            self._served += len(requests)
            self._predicting.release()

    def stream(self, request: Request) -> Items:
        """Stream one request, see Streamer.items. Other requests take their turn between two items."""
        self._served += 1
        return self._streamer.items(request)

    def pulse(self) -> Dict[str, int]:
        """Return the contents of PONG.

        busy_ms: how long the current prediction has taken, 0 when idle. served: requests since the start.
        """
        since = self._turns.busy_since
        busy_ms = max(1, round((time.monotonic() - since) * 1000)) if since else 0
        return {"busy_ms": busy_ms, "served": self._served, "rss_bytes": rss_bytes()}

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._stopping:
                    return
                time.sleep(0.05)  # out of file descriptors: give existing connections time to close
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="connection", daemon=True)
            with self._changing:
                if self._stopping:
                    connection.close()
                    return
                self._connections[thread] = connection
            try:
                thread.start()
            except RuntimeError:  # the thread limit is reached
                self._forget(thread, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(HELLO_SECONDS)
            first = _receive_at_least(connection, _FIRST_BYTES)
            if first[:_FIRST_BYTES] in _HTTP:
                # Importing http.server takes a third of this program's own start time; a gateway never needs it.
                from model_container.server.http import answer_http

                answer_http(self, connection, first)
            else:
                self._serve_frames(connection, first)
        except (OSError, FrameError) as error:
            if isinstance(error, FrameError):
                print(f"prism: closed a connection: {error}", file=sys.stderr, flush=True)
        finally:
            self._forget(threading.current_thread(), connection)

    def _forget(self, thread: threading.Thread, connection: socket.socket) -> None:
        with self._changing:
            self._connections.pop(thread, None)
        connection.close()

    def _serve_frames(self, connection: socket.socket, data: bytes) -> None:
        reader = FrameReader()
        frames = reader.feed(data)
        received = len(data)
        while not frames:
            data = connection.recv(MAX_HELLO_BYTES)
            received += len(data)
            if not data or received > MAX_HELLO_BYTES:
                return
            frames = reader.feed(data)
        hello = _hello(frames[0])
        if not self.admits(hello.get("token")):
            return
        answer_bytes_max = hello.get("max_answer_bytes", MAX_PAYLOAD_BYTES)
        connection.settimeout(None)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(encode(frames[0].id, WELCOME, self._welcome_bytes))
        frames = frames[1:]
        receiver = SpinningReceiver(connection)
        while True:
            for frame in frames:
                connection.sendall(self._reply(frame, answer_bytes_max))
            data = receiver.receive(lone=len(frames) == 1 and frames[0].items == 1)
            if not data:
                return
            frames = reader.feed(data)

    def admits(self, token: object) -> bool:
        """Return whether the token is right, comparing in constant time.

        Without a token of its own, the runtime admits anyone.
        """
        return not self.token or (
            isinstance(token, str) and _is_equal(token.encode("utf-8", "replace"), self.token.encode())
        )

    def _reply(self, frame: Frame, answer_bytes_max: int) -> bytes:
        if frame.kind == PREDICT:
            answers, codec_us, model_us = self.predict(decode_requests(frame))
            reply = encode_answers(frame.id, answers, codec_us, model_us)
            if len(reply) > answer_bytes_max:  # a cheap check of the whole reply, nearly always enough
                reply = encode_answers(frame.id, within(answers, answer_bytes_max), codec_us, model_us)
            return reply
        if frame.kind == CONVERT:
            # Only a replica started for conversion has the packages it needs; see convert.py.
            from model_container.conversion.convert import convert

            return encode_answers(frame.id, [Answer(part) for part in convert(self._adapter)], 0, 0)
        if frame.kind == PING:
            return encode(frame.id, PONG, msgspec.json.encode(self.pulse()))
        if frame.kind == STREAM:
            return self._stream(frame, answer_bytes_max)
        raise FrameError(f"a frame of kind {frame.kind} has no answer")

    def _stream(self, frame: Frame, item_bytes_max: int) -> bytes:
        """Send the items and return the final frame, which says how the stream ended.

        Raises OSError once the client has closed.
        """
        requests = decode_requests(frame)
        if len(requests) != 1:
            raise FrameError("a STREAM frame has one request")
        self._served += 1
        connection = self._connections[threading.current_thread()]
        ended = self._streamer.send(connection, frame.id, requests[0], item_bytes_max)
        return encode_answers(frame.id, [ended.answer], 0, ended.model_us)


def _hello(frame: Frame) -> Dict[str, Any]:
    """Decode the first frame of a connection. Raises FrameError unless it is a HELLO of this protocol."""
    try:
        hello = json.loads(frame.payload) if frame.kind == HELLO else None
    except (ValueError, RecursionError):
        hello = None
    if not isinstance(hello, dict) or type(hello.get("max_answer_bytes", 1)) is not int:
        raise FrameError("its first frame is no HELLO")
    if hello.get("protocol") != PROTOCOL:
        raise FrameError(f"it speaks protocol {hello.get('protocol')!r}, this runtime {PROTOCOL}")
    return hello


def _is_equal(first: bytes, second: bytes) -> bool:
    """Compare in constant time. hmac.compare_digest would load OpenSSL (4 MB) along with hmac."""
    difference = len(first) ^ len(second)
    for byte, other in zip(first, second):
        difference |= byte ^ other
    return not difference


def rss_bytes() -> int:
    """Return this process's resident memory; its peak if the system does not report the current value."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _receive_at_least(connection: socket.socket, count: int) -> bytes:
    """Read at least `count` bytes.

    Raises ConnectionResetError if the peer closes before the first byte, and FrameError if it closes later.
    """
    data = b""
    while len(data) < count:
        more = connection.recv(MAX_HELLO_BYTES)
        if not more:
            raise (
                FrameError("it ended before its first frame")
                if data
                else ConnectionResetError("closed without a message")
            )
        data += more
    return data


def _end_reading(connection: socket.socket) -> None:
    """Shut down reading: data that has arrived can still be read, then the connection ends."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
