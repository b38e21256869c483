"""Lock for one prediction at a time, where waiting requests go before the next item of a stream."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Iterator


class FairLock:
    """Lock that a stream cannot take again while another request waits.

    Python's own lock can be reacquired at once by the thread that released it, so a stream of quick items would shut
    out all others. A waiting thread therefore holds `_next`, which a stream needs first.

    busy_since: monotonic time at which the current turn began; 0.0 while the model is idle.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.busy_since = 0.0
        self._next = threading.Lock()

    def wait(self) -> None:
        """Wait for the lock after `lock.acquire(False)` failed."""
        with self._next:
            self.lock.acquire()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold the lock for one step of a stream."""
        self.wait()
        self.busy_since = time.monotonic()
        try:
            yield
        finally:
            self.busy_since = 0.0
            self.lock.release()
