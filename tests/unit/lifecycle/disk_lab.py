"""A disk that takes its time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.fakes import eventually


class SlowDisk:
    """A disk on which one function of the operating system takes until `release` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self._present, self._reached, self._released = getattr(module, name), threading.Event(), threading.Event()
        monkeypatch.setattr(module, name, self._wait)

    def _wait(self, *arguments: Any, **options: Any) -> Any:
        self._reached.set()
        self._released.wait(10)
        return self._present(*arguments, **options)

    async def reached(self) -> None:
        await eventually(self._reached.is_set)

    def release(self) -> None:
        self._released.set()
