"""What scripts/attack tries does work where nothing stands in its way: an attack that cannot succeed shows nothing."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.attacks.artifacts import FORMS, artifacts
from scripts.attacks.canary import Canary
from scripts.attacks.gadgets import Gadget
from scripts.attacks.outcome import Outcome, table
from scripts.attacks.probes import MODEL

noted: list[str] = []


def note(what: str) -> list[str]:
    noted.append(what)
    return noted


@pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")
@pytest.mark.parametrize("form", [name for name in FORMS if name != "NEWOBJ"])  # that one asks for a class
def test_every_pickle_variant_calls_its_gadget_when_loaded(form: str, tmp_path: Path) -> None:
    noted.clear()
    file = tmp_path / "model.pkl"
    file.write_bytes(FORMS[form](Gadget(__name__, "note", (form,))))
    with file.open("rb") as content:
        pickle.load(content)
        if form == "a second pickle":
            assert noted == []
            pickle.load(content)
    assert noted == [form]


def test_all_hostile_files_are_different(tmp_path: Path) -> None:
    with Canary(tmp_path / "canary") as canary:
        every = list(artifacts(canary, pickle.dumps({"coefficients": [1.5] * 100})))
    assert len(every) > 600
    assert len({(one.content, one.file_name, one.consent) for one in every}) > 0.95 * len(every)


def test_a_canary_sees_a_file_and_a_connection(tmp_path: Path) -> None:
    with Canary(tmp_path / "canary") as canary:
        assert canary.signs() == ()
        subprocess.run(["sh", "-c", canary.command("it")], check=True)
        assert canary.signs() == ("it was written outside the sandbox",)
        with socket.create_connection(("127.0.0.1", canary.port)) as connection:
            connection.recv(1)  # returns once it was taken
        assert "1 connections left the sandbox" in canary.signs()


def test_escape_attempts_succeed_without_a_sandbox(tmp_path: Path) -> None:
    """Those that need no power over the machine, on what belongs to this test."""
    secret, folder = tmp_path / "secret", tmp_path / "folder"
    secret.write_text("of the host")
    folder.mkdir()
    (folder / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        told = {
            "secrets": [str(secret)],
            "folders": [str(folder)],
            "port": tcp.getsockname()[1],
            "host": "127.0.0.1",
            "sockets": [str(tmp_path / "socket")],
            "pids": [os.getpid()],
        }
        wanted = [
            *(f"read {secret}", f"write {secret}", f"link to {secret}", f"list {folder}", f"write into {folder}"),
            *("TCP to 127.0.0.1", "UDP to 127.0.0.1", f"reach the socket {str(tmp_path / 'socket')!r}"),
            *(f"signal {os.getpid()}", f"read the environment of {os.getpid()}"),
            *("find a secret in the environment", "write beside itself"),
        ]
        copy = tmp_path / "model.py"
        copy.write_text(MODEL.read_text().replace("TARGETS = {}", f"TARGETS = {told!r}", 1))
        script = "import json, sys, model; print(json.dumps([model.refusal(model.probes()[n]) for n in sys.argv[1:]]))"
        done = subprocess.run(
            [sys.executable, "-c", script, *wanted],
            cwd=tmp_path,
            env={"PATH": os.defpath, "SECRET": "canary"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert dict(zip(wanted, json.loads(done.stdout), strict=True)) == dict.fromkeys(wanted, "")


def test_outcomes_become_a_table() -> None:
    told = table([Outcome("3 files", {"refused": "2", "contained": "1"})])
    assert told.splitlines()[-1] == "| 3 files | 2 refused, 1 contained |"
