"""Only the socket that was made for a replica is connected to, whatever lies under its name."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.dispatch.replica_socket import NotASocket, held

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing holds a path; use a Linux machine")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        yield listener


def reach(path: str) -> None:
    with held(path) as name, socket.socket(socket.AF_UNIX) as client:
        client.connect(name)


def test_a_socket_is_reached(tmp_path: Path, listener: socket.socket) -> None:
    reach(str(tmp_path / "s"))
    listener.accept()[0].close()


@pytest.mark.parametrize("make", ["link", "link to a link", "file", "folder"])
def test_a_file_that_is_not_a_socket_is_refused(tmp_path: Path, listener: socket.socket, make: str) -> None:
    path = tmp_path / "other"
    if make == "file":
        path.touch()
    elif make == "folder":
        path.mkdir()
    else:
        (tmp_path / "link").symlink_to(tmp_path / "s")
        path.symlink_to(tmp_path / ("s" if make == "link" else "link"))
    with pytest.raises(NotASocket):
        reach(str(path))
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_missing_socket_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        reach(str(tmp_path / "none"))


@needs_proc
def test_the_checked_socket_is_reached_even_if_its_path_is_replaced(tmp_path: Path, listener: socket.socket) -> None:
    with held(str(tmp_path / "s")) as name, socket.socket(socket.AF_UNIX) as other:
        os.rename(tmp_path / "s", tmp_path / "moved")
        other.bind(str(tmp_path / "s"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
    listener.accept()[0].close()


@needs_proc
def test_no_folder_below_a_containers_root_may_be_a_link(tmp_path: Path, listener: socket.socket) -> None:
    """Its absolute links would lead into this machine's root."""
    root = f"/proc/{os.getpid()}/root"
    reach(f"{root}{tmp_path.resolve()}/s")
    listener.accept()[0].close()
    (tmp_path / "run").symlink_to(tmp_path)
    with pytest.raises(OSError, match="Not a directory"):
        reach(f"{root}{tmp_path.resolve()}/run/s")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_socket_of_another_user_is_refused(tmp_path: Path, listener: socket.socket) -> None:
    """Only root can give a file away; without it there is nothing to show."""
    if os.geteuid() != 0:
        return
    os.chown(tmp_path / "s", 65534, 65534)
    with pytest.raises(NotASocket):
        reach(str(tmp_path / "s"))


@needs_proc
def test_a_pid_that_was_reused_is_not_followed(tmp_path: Path, listener: socket.socket) -> None:
    path = f"/proc/{os.getpid()}/root{tmp_path.resolve()}/s"
    with pytest.raises(NotASocket, match="is not the container"), held(path, "0123456789abcdef" * 4):
        pass
