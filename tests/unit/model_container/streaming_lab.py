"""Models that yield their answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

SECONDS = 30.0


class Model:
    """Yields what the test lets it. made: how many items it made. closed: set once its `finally` ran."""

    def __init__(self) -> None:
        self.gates: dict[int, threading.Event] = {}
        self.made = 0
        self.closed = threading.Event()
        self.fails_at: dict[int, BaseException] = {}
        self.size = 1

    def predict(self, rows: Any) -> Iterator[Any]:
        try:
            for index in range(int(rows[0][0])):
                if index in self.gates:
                    assert self.gates[index].wait(SECONDS)
                if index in self.fails_at:
                    raise self.fails_at[index]
                self.made += 1
                yield index if self.size == 1 else "x" * self.size
        finally:
            self.closed.set()


def rows(count: int) -> dict[str, Any]:
    return {"features": [[count]]}
