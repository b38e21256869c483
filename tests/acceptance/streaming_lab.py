"""Models that yield, and clients that read their streams."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.acceptance.server import Server, wait_for

SECONDS = 60


WORDS = '''
import tempfile
import time
from pathlib import Path

FOLDER = Path(tempfile.gettempdir())


class Model:
    """Yields the words it is given. `wait` is one for which it waits until there is a file `go`."""

    sample = {"words": "a b"}

    def predict(self, request):
        try:
            for word in request["words"].split():
                if word == "wait":
                    deadline = time.monotonic() + 50
                    (FOLDER / "waits").touch()
                    while not (FOLDER / "go").exists() and time.monotonic() < deadline:
                        time.sleep(0.005)
                if word == "fail":
                    raise RuntimeError("no more words")
                if word == "refuse":
                    raise ValueError("not that word")
                yield word
            for number in range(request.get("numbers", 0)):
                (FOLDER / "made").write_text(str(number))
                yield str(number) + "x" * 4096
        finally:
            if request != self.sample:  # which is asked now and then, to see whether the model is well
                (FOLDER / "closed").touch()
'''


LINES = "application/x-ndjson"


def zipped(folder: Path, name: str, source: str) -> Path:
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr("model.py", source)
    return folder / f"{name}.zip"


class Place:
    """The folder in which the model's files are, on either target."""

    def __init__(self, server: Server, ref: str = "words") -> None:
        self._server = server
        self._ref = ref

    @property
    def _replica(self) -> dict[str, Any]:
        replica: dict[str, Any] = self._server.model(self._ref)["replica"]
        return replica

    def _path(self, name: str) -> Path:
        model_id = self._server.model(self._ref)["model_id"]
        run = self._server.home / "model_store" / "run" / model_id
        (work,) = [path for path in run.glob("*/work") if path.is_dir()]
        return work / name

    def _inside(self, *command: str) -> bool:
        done = subprocess.run(["docker", "exec", self._replica["id"], *command], capture_output=True, check=False)
        return done.returncode == 0

    def has(self, name: str) -> bool:
        if self._replica["target"] == "docker":
            return self._inside("test", "-e", f"/tmp/{name}")
        return self._path(name).exists()

    def make(self, name: str) -> None:
        if self._replica["target"] == "docker":
            assert self._inside("touch", f"/tmp/{name}")
        else:
            self._path(name).touch()

    def remove(self, *names: str) -> None:
        for name in names:
            if self._replica["target"] == "docker":
                self._inside("rm", "-f", f"/tmp/{name}")
            else:
                self._path(name).unlink(missing_ok=True)

    def read(self, name: str) -> str:
        return self._path(name).read_text()


def open_streams(server: Server) -> int:
    lines = server.http.get("/metrics").text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("prism_open_streams{"))


def in_the_middle(place: Place, lines: Iterator[str], first: str) -> None:
    """The first item is here, and the model does not make the second until it is let."""
    assert next(lines) == first
    wait_for(lambda: place.has("waits"), SECONDS, "the model to wait")
    assert not place.has("closed")
    place.make("go")


def command(server: Server, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "prism.cli", "predict", *arguments, "--stream", "--url", server.url]
