"""A wheel that does all it can to run code at the start of a Python, and the index on loopback that serves it."""

from __future__ import annotations

import contextlib
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PACKAGE = "evilpkg"
PICKLE = b"cevilpkg\nModel\n(tR."
FIRED = "CANARY"
"""Printed by whatever of the wheel runs, but for the class that the model is made of."""

IN_A_CONTAINER = ("/canary", "/tmp/canary", "/opt/canary", "/var/tmp/canary")

CANARY = """
import os, sys
for path in ({file!r}, *{places!r}):
    try:
        with open(path, "a") as file:
            file.write(repr((sys.argv, dict(os.environ))) + "\\n")
    except OSError:
        pass
print({fired!r}, sys.argv, flush=True)
"""
MODEL = """
import json, os
print("environment", json.dumps(dict(os.environ)), flush=True)
class Model:
    def predict(self, rows):
        return [1.0 for _ in rows]
"""


def files(canary: Path, version: str) -> dict[str, str]:
    """Return the files of a wheel with every known startup hook except a script called `python`, which uv itself refuses."""
    fire = CANARY.format(file=str(canary), places=IN_A_CONTAINER, fired=FIRED)
    data = f"{PACKAGE}-{version}.data"
    return {
        f"{PACKAGE}/__init__.py": MODEL,
        "evilcanary.py": fire,
        f"{PACKAGE}.pth": "import evilcanary\n",
        "sitecustomize.py": "import evilcanary\n",
        "usercustomize/__init__.py": "import evilcanary\n",
        f"{data}/data/pyvenv.cfg": "home = /nowhere\n",
        f"{data}/data/.complete": "x\n",
    }


def write_wheel(folder: Path, version: str, content: Mapping[str, str]) -> None:
    """In a folder that an index serves: `simple/evilpkg/`."""
    info = f"{PACKAGE}-{version}.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = "".join(f"{name},,\n" for name in (*content, *about, f"{info}/RECORD"))
    place = folder / "simple" / PACKAGE
    place.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place / f"{PACKAGE}-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in {**content, **about, f"{info}/RECORD": listed}.items():
            wheel.writestr(name, text)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of an index of the wheels below `folder/simple/`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple/"
        finally:
            server.shutdown()
            thread.join()
