"""Models that tell which of their replicas answers, and callers that ask all the time."""

from __future__ import annotations

import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2

from tests.acceptance.server import Server, wait_for

WHO = """
import os, time, uuid

class Model:
    def load(self):
        self.me = uuid.uuid4().hex

    def predict(self, rows):
        time.sleep(0.005)
        return [self.me for row in rows]
"""
"""Each replica says the name it gave itself: within its walls, all of them may have the same process id."""

ROWS = [[1]]
PAUSE_SECONDS = 0.03
"""Between two requests of a caller, so that the load leaves the machine to what is tested."""


def archive(folder: Path, name: str = "who", **files: str) -> Path:
    """A zip of a folder with these files; `_` stands for the dot of each name."""
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for key, text in files.items():
            stem, _, suffix = key.rpartition("_")
            packed.writestr(f"{stem}.{suffix}", text)
    return path


class Callers:
    """Ask a model all the time, over connections of their own, until the block ends."""

    def __init__(self, server: Server, name: str, number: int = 6) -> None:
        self._path = f"{server.url}/models/{name}/predict"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]
        self.failures: list[str] = []
        self.answers: dict[str, int] = {}
        self.count = 0

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.count > 20 or bool(self.failures), 30, "callers that are under way")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def anew(self) -> None:
        """Forget who answered; what was asked before this does not count any more."""
        self.answers = {}

    def more(self, number: int = 50) -> None:
        """Wait until so many more were answered."""
        count = self.count
        wait_for(lambda: self.count >= count + number or bool(self.failures), 60, "more answers")

    def heard(self, number: int) -> None:
        """Wait until so many replicas answer from now on."""
        self.anew()
        wait_for(lambda: len(self.answers) >= number or bool(self.failures), 60, f"{number} replicas")

    def _ask(self) -> None:
        with httpx2.Client(timeout=60, trust_env=False) as http:
            while not self._over.is_set():
                answers = self.answers
                try:
                    answer = http.post(self._path, json=ROWS)
                except httpx2.HTTPError as error:
                    self.failures.append(repr(error))
                    return
                if answer.status_code == 200:
                    who = str(answer.json()["predictions"][0])
                    answers[who] = answers.get(who, 0) + 1
                else:
                    self.failures.append(answer.text)
                self.count += 1
                time.sleep(PAUSE_SECONDS)


def ids(server: Server, ref: str = "who") -> list[str]:
    return [one["id"] for one in server.model(ref)["replicas"]]


def becomes(server: Server, number: int, seconds: float = 60, ref: str = "who") -> list[dict[str, Any]]:
    """Wait until so many replicas run, and nothing else is to be said of them."""

    def settled() -> bool:
        model = server.model(ref)
        return len(model["replicas"]) == number and model["error"] is None and model["status"] == "live"

    wait_for(settled, seconds, f"{number} replicas ({server.model(ref)['replicas']}, {server.model(ref)['error']})")
    replicas: list[dict[str, Any]] = server.model(ref)["replicas"]
    return replicas
