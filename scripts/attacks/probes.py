"""Escapes, tried one by one from inside a model that its owner let in."""

from __future__ import annotations

import io
import json
import os
import socket
import zipfile
from pathlib import Path

from scripts.attacks.canary import Canary
from scripts.attacks.outcome import Outcome
from scripts.attacks.server import Attacked

MODEL = Path(__file__).with_name("probe_model.py")
NAME = "probe"


def run(server: Attacked, canary: Canary, folder: Path) -> Outcome:
    """Deploy the hostile model, have it try everything, and see what succeeded."""
    folder.mkdir()
    secret = folder / "secret"
    secret.write_text("of the host")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
        unix.listen()
        archive = folder / "probe.zip"
        archive.write_bytes(packed(targets(server, canary, secret, str(folder / "socket"))))
        server.deploy(archive, NAME, expected_input_json=json.dumps(body_of("")))
        names = json.loads(ask(server, ""))
        succeeded = [name for name in names if not ask(server, name)]
    figures = {"tried": str(len(names)), "refused": str(len(names) - len(succeeded)), "succeeded": str(len(succeeded))}
    breaches = tuple(f"on {server.target}, a model can {name}" for name in succeeded)
    return Outcome(f"escapes from a model on `{server.target}`", figures, breaches)


def ask(server: Attacked, probe: str) -> str:
    """Why it was refused; "" if it succeeded. A probe that ends the replica has not succeeded."""
    answer = server.http.post(f"/models/{NAME}/predict", json=body_of(probe))
    if answer.status_code != 200:
        return f"answered {answer.status_code}"
    return str(answer.json()["predictions"][0])


def body_of(probe: str) -> dict[str, object]:
    return {"features": [{"probe": probe}]}


def targets(server: Attacked, canary: Canary, secret: Path, unix: str) -> dict[str, object]:
    registry = server.home / "app" / "registry"
    return {
        "secrets": [
            str(secret),
            "/etc/shadow",
            "/root/.bashrc",
            str(registry / "containers.json"),
            str(server.home / "server.log"),
        ],
        "folders": [
            str(secret.parent),
            str(canary.folder),
            str(registry),
            "/root",
            "/home",
        ],
        "port": canary.port,
        "host": host_address(),
        "sockets": [
            unix,
            "/var/run/docker.sock",
            "/run/containerd/containerd.sock",
            "/run/dbus/system_bus_socket",
            "\0prism",
        ],
        "pids": [server.pid, os.getpid()],
    }


def packed(targets: dict[str, object]) -> bytes:
    """The model's folder as an archive."""
    source = MODEL.read_text().replace("TARGETS = {}", f"TARGETS = {targets!r}", 1)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("probe/model.py", source)
        archive.writestr("probe/requirements.txt", "numpy\n")
    return content.getvalue()


def host_address() -> str:
    """An address of this host that is not loopback, where it has one. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
