"""A network between browser and server that is as slow as one likes, and can be cut in the middle of anything."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable

PIECE_BYTES = 1 << 16


class Wire:
    """Relays TCP from a port of its own to `port`, both on loopback. While cut, connections end and none is accepted.

    upward_bytes_per_second: how fast a connection carries what the browser sends; 0 for as fast as can be.
    most_upward_bytes: how many of those it carries until more are allowed; 0 for all of them.
    """

    def __init__(self, port: int, upward_bytes_per_second: int = 0, most_upward_bytes: int = 0) -> None:
        self.most_upward_bytes = most_upward_bytes
        self._to = port
        self._pause_seconds = PIECE_BYTES / upward_bytes_per_second if upward_bytes_per_second else 0.0
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listener = self._listen(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        with self._lock:
            for end in (self._listener, *self._ends):
                hang_up(end)
            self._ends = []

    def mend(self) -> None:
        self._listener = self._listen(int(self.url.rpartition(":")[2]))

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE_BYTES)  # else the kernel takes megabytes at once
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                with self._lock:
                    if listener.fileno() < 0:  # it was cut while this one was being accepted
                        hang_up(near)
                        hang_up(far)
                        return
                    self._ends += [near, far]
                for way in ((near, far, self._pause_seconds, self._most), (far, near, 0.0, lambda: math.inf)):
                    threading.Thread(target=relay, args=way, daemon=True).start()

    def _most(self) -> float:
        return self.most_upward_bytes or math.inf


def relay(source: socket.socket, sink: socket.socket, pause_seconds: float, most: Callable[[], float]) -> None:
    """Until either side ends, which ends both. pause_seconds: between two pieces. most: bytes, for the time being."""
    carried = 0
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            sink.sendall(data)
            carried += len(data)
            time.sleep(pause_seconds)
            while carried >= most() and source.fileno() >= 0:
                time.sleep(0.01)
    hang_up(source)
    hang_up(sink)


def hang_up(end: socket.socket) -> None:
    """Wakes the thread that waits for it, too; closing alone would not."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
