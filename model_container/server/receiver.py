"""Receiver for one connection that polls briefly where polling is faster than blocking.

A client that sends one request after another sends the next one within microseconds of an answer, and waking a blocked
process takes just as long. After a lone request the receiver therefore polls for the next one for a moment. It does so
only while the previous wait was that short, so that a less busy replica wastes no CPU time.
"""

from __future__ import annotations

import os
import socket
from time import perf_counter
from typing import Optional

AWAKE_SECONDS = 0.0002

_RECEIVE_BYTES = 1 << 18


class SpinningReceiver:
    """Receiver that reads from a blocking socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # Reuse one buffer: allocating this size each time would cost a memory mapping and its page faults.
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._last_wait = AWAKE_SECONDS

    def receive(self, lone: bool) -> bytes:
        """Wait for data and return it; b"" at the end. lone: whether the last request came by itself.

        Raises OSError.
        """
        began = perf_counter()
        count = self._look(began + AWAKE_SECONDS) if lone and self._last_wait < AWAKE_SECONDS else None
        if count is None:
            count = self._connection.recv_into(self._buffer)
        self._last_wait = perf_counter() - began
        return bytes(self._buffer[:count])

    def _look(self, until: float) -> Optional[int]:
        """Poll until the given time. Returns the number of bytes received, 0 at the end, or None if nothing came."""
        receive, buffer = self._connection.recv_into, self._buffer
        while perf_counter() < until:
            try:
                return receive(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                os.sched_yield()  # let any process with work to do run first
        return None
