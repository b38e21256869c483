"""Streaming of one request: its items are sent as the model produces them.

    decode → check against the signature → begin → an item, an item, … → how it ended

The model is locked only while it produces an item, so other requests are answered between two items. An item is
produced on demand, never in advance.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import Any, Callable, ContextManager, Dict, Generator, Iterator, List, NamedTuple, Tuple

from model_container.adapters.base import Adapter, Outputs, Yielding
from model_container.batch import FAILURES, Batcher, check_length, failed
from model_container.bodies.encode import PREDICTIONS, TEXT_OUTPUT, generated, items_of
from model_container.bodies.plain_json import encode_json
from model_container.bodies.problems import Problem
from model_container.contract.frames import DIALECT_GENERATE, PART, Answer, Request, encode
from model_container.server.answer_size import answer_too_large

CUT_OFF_SECONDS = 0.5
"""Time for a stream to notice that its connection was cut off, and for its model to clean up."""


class Ended(NamedTuple):
    """End of a stream. answer: status 200 and {"items": …}, or the problem. model_us: µs spent in the model."""

    answer: Answer
    model_us: int


Items = Generator[bytes, None, Ended]
"""Generator of the items as JSON. Closing it closes the model's own generator.

It raises nothing for what a request or the model does.
"""


class Streamer:
    """Producer of streams. turn: context in which the model may work.

    is_over: whether the runtime, and its streams, must end.
    """

    def __init__(
        self, adapter: Adapter, batcher: Batcher, turn: Callable[[], ContextManager[None]], is_over: Callable[[], bool]
    ) -> None:
        self._adapter = adapter
        self._batcher = batcher
        self._turn = turn
        self._is_over = is_over
        self._sending: Dict[threading.Thread, socket.socket] = {}

    def items(self, request: Request) -> Items:
        spent_ns = 0
        made: Iterator[Any] = iter(())
        count = 0
        answer = None
        try:
            made, began_ns = self._timed(lambda: self._begun(request))
            name = self._output_name() if request.dialect == DIALECT_GENERATE else ""
            spent_ns += began_ns
            while not self._is_over():
                body, took_ns = self._timed(lambda: _next(made, name))
                spent_ns += took_ns
                if body is None:
                    answer = Answer(encode_json({"items": count}))
                    break
                yield body
                count += 1
            else:
                answer = Problem(503, "stopping", f"The model was stopped after {count} items.").answer()
        except Problem as problem:
            answer = problem.answer()
        except FAILURES as error:
            answer = failed(error)
        finally:
            self._close(made)
        return Ended(answer, spent_ns // 1000)

    def send(self, connection: socket.socket, frame_id: int, request: Request, item_bytes_max: int) -> Ended:
        """Send each item in a frame, no faster than the client reads them. An item that is too large ends the stream.

        Raises OSError once the client has closed.
        """
        thread, items = threading.current_thread(), self.items(request)
        self._sending[thread] = connection
        try:
            while True:
                try:
                    body = next(items)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                if len(body) > item_bytes_max:
                    return Ended(answer_too_large(len(body), item_bytes_max).answer(), 0)
                if is_gone(connection) and not self._is_over():  # while the runtime stops, reading is shut down
                    raise ConnectionResetError("the client has disconnected")
                connection.sendall(encode(frame_id, PART, body))
        finally:
            self._sending.pop(thread, None)
            items.close()

    def cut_off(self, seconds: float) -> List[threading.Thread]:
        """End all streams when the runtime stops. Each ends by itself after its current item.

        Returns the threads of those that did not end in time: their model still works on an item that nobody waits for.
        """
        sending, deadline = dict(self._sending), time.monotonic() + seconds
        for thread in sending:
            thread.join(max(0.0, deadline - time.monotonic()))
        for connection in sending.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that is blocked sending to a client
        for thread in sending:
            thread.join(CUT_OFF_SECONDS)
        return [thread for thread in sending if thread.is_alive()]

    def _timed(self, step: Callable[[], Any]) -> Tuple[Any, int]:
        """Run one step when it is its turn; return its result and the nanoseconds it took after that."""
        with self._turn():
            began = time.perf_counter_ns()
            return step(), time.perf_counter_ns() - began

    def _begun(self, request: Request) -> Iterator[Any]:
        job, probabilities = self._batcher.prepare(0, request)
        outputs: Any = None
        if not probabilities and isinstance(self._adapter, Yielding):
            outputs = self._adapter.begin(job.inputs)
            if not isinstance(outputs, Outputs):
                return outputs  # type: ignore[no-any-return]
        else:
            outputs = self._adapter.predict(job.inputs, probabilities)
        if outputs.by_row and outputs.counted:
            check_length(outputs, job.inputs.rows)
        return iter(items_of(outputs))

    def _output_name(self) -> str:
        described: Dict[str, Any] = next(iter(self._adapter.signature()["outputs"]), {"name": PREDICTIONS})
        return TEXT_OUTPUT if described["name"] == PREDICTIONS else str(described["name"])

    def _close(self, made: Iterator[Any]) -> None:
        """Let the model clean up after a stream, whoever ended it. An error here only goes to the log."""
        close = getattr(made, "close", None)
        if close is None:
            return
        try:
            with self._turn():
                close()
        except FAILURES as error:
            failed(error, refusals=())  # writes the error to the log


def _next(made: Iterator[Any], name: str) -> Any:
    """Return the next item as JSON; None after the last.

    name: of the output in the generate extension, otherwise "".
    """
    try:
        item = next(made)
    except StopIteration:
        return None
    return encode_json(generated(item, name) if name else item)


def is_gone(connection: socket.socket) -> bool:
    """Return whether the peer has closed the connection."""
    readable = select.poll()
    readable.register(connection, select.POLLIN)
    return bool(readable.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
