"""One prediction at a time, and whoever waits goes before the next item of a stream."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Iterator


class FairLock:
    """busy_since: when the turn under way began, on the monotonic clock; 0.0 while the model is idle.

    Python's own lock may be taken again by who has just let go of it, so that a stream of quick items would keep
    everybody else out. Who has to wait therefore holds `_next` meanwhile, and a stream needs that first.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.busy_since = 0.0
        self._next = threading.Lock()

    def wait(self) -> None:
        """For the lock, where `lock.acquire(False)` did not get it."""
        with self._next:
            self.lock.acquire()

    @contextmanager
    def one(self) -> Iterator[None]:
        """For one step of a stream."""
        self.wait()
        self.busy_since = time.monotonic()
        try:
            yield
        finally:
            self.busy_since = 0.0
            self.lock.release()
