"""A model that its owner let in with consent still cannot get out of its runtime."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.attacks.probes import host_address
from tests.acceptance.conftest import StartServer

SPY = '''
import os, socket, subprocess


class Spy:
    """Tries to get out, at every prediction; answers what worked."""

    def predict(self, rows):
        return [[name for name, attempt in self.attempts().items() if self.works(attempt)] for _ in rows]

    def works(self, attempt):
        try:
            attempt()
        except BaseException:
            return False
        return True

    def attempts(self):
        told = self.told
        return {
            "tcp to the host": lambda: socket.create_connection((told["host"], told["port"]), 1),
            "tcp to loopback": lambda: socket.create_connection(("127.0.0.1", told["port"]), 1),
            "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (told["host"], told["port"])),
            "dns": lambda: socket.getaddrinfo("example.com", 80),
            "a file of the host": lambda: open(told["secret"]).read(),
            "the registry": lambda: open(told["registry"]).read(),
            "another model": lambda: open(told["other"]).read(),
            "writing beside the artifact": lambda: open(told["folder"] + "/mark", "w"),
            "writing to the system": lambda: open("/etc/mark", "w"),
            "a key in the environment": self.key,
            "the gateway's process": lambda: os.kill(told["gateway"], 0),
        }

    def key(self):
        assert any("top-secret" in value for value in os.environ.values())
'''
MAKE = """
import json, pickle, sys
sys.path.insert(0, sys.argv[1])
import spy
it = spy.Spy()
it.told = json.loads(sys.argv[2])
sys.stdout.buffer.write(pickle.dumps(it))
"""


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of the host, on every address, that would take a connection."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


def test_nothing_gets_out_of_a_runtime(start_server: StartServer, target: str, tmp_path: Path, listener: int) -> None:
    server = start_server(PRISM_TARGET=target, PRISM_API_KEYS="top-secret")
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    other = server.home / "model_store" / "uploads" / "0123456789ab" / "artifact" / "model.pkl"
    other.parent.mkdir(parents=True)
    other.write_text("of another model")
    (tmp_path / "spy.py").write_text(SPY)
    told = {
        "host": host_address(),
        "port": listener,
        "secret": str(secret),
        "registry": str(server.home / "app" / "registry" / "containers.json"),
        "other": str(other),
        "folder": str(tmp_path),
        "gateway": server.process.pid if server.process else 0,
    }
    made = subprocess.run([sys.executable, "-c", MAKE, tmp_path, json.dumps(told)], stdout=subprocess.PIPE, check=True)
    file = tmp_path / "spy.pkl"
    file.write_bytes(made.stdout)
    server.http.headers["X-API-Key"] = "top-secret"
    answer = server.upload(file, code={"spy.py": SPY.encode()}, model_name="spy", expected_input_json="[[1]]")
    assert answer.status_code == 201, answer.text
    assert server.predict("spy", [[1]]).json()["predictions"] == [[]]
    assert not (tmp_path / "mark").exists()


def test_the_spy_finds_what_is_open(tmp_path: Path, listener: int) -> None:
    """Without walls every attempt that can work here does: the test above can fail."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    (tmp_path / "spy.py").write_text(SPY)
    told = {
        "host": host_address(),
        "port": listener,
        "secret": str(secret),
        "registry": str(secret),
        "other": str(secret),
        "folder": str(tmp_path),
        "gateway": 1,
    }
    script = f"import json, sys; sys.path.insert(0, {str(tmp_path)!r}); import spy; s = spy.Spy(); s.told = {told!r}\nprint(json.dumps(s.predict([1])[0]))"
    found = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, text=True)
    assert {"tcp to the host", "tcp to loopback", "udp", "a file of the host", "another model"} <= set(
        json.loads(found.stdout)
    )
