"""The bytes of one connection, awaited awake where that is quicker than being woken.

A client that asks one request after another sends the next one within microseconds of its answer, and waking a process
that sleeps takes as long as all that. So after a lone request the next is looked for without sleeping, for a moment;
and only as long as the last wait was that short, so that a replica with less to do burns no processor time.
"""

from __future__ import annotations

import os
import socket
from time import perf_counter
from typing import Optional

AWAKE_SECONDS = 0.0002

_RECEIVE_BYTES = 1 << 18


class SpinningReceiver:
    """Of a blocking socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # One buffer for good: a fresh one of this size costs a mapping and its page faults each time.
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._last_wait = AWAKE_SECONDS

    def receive(self, lone: bool) -> bytes:
        """b"" at the end. lone: what was answered last came by itself. Raises OSError."""
        began = perf_counter()
        count = self._look(began + AWAKE_SECONDS) if lone and self._last_wait < AWAKE_SECONDS else None
        if count is None:
            count = self._connection.recv_into(self._buffer)
        self._last_wait = perf_counter() - began
        return bytes(self._buffer[:count])

    def _look(self, until: float) -> Optional[int]:
        """The number of bytes that came in that time, 0 at the end; None if nothing did."""
        receive, buffer = self._connection.recv_into, self._buffer
        while perf_counter() < until:
            try:
                return receive(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                os.sched_yield()  # who has something to do goes first
        return None
