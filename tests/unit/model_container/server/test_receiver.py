"""Bytes of a real socket, awaited awake or asleep."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from model_container.server.receiver import AWAKE_SECONDS, SpinningReceiver

ENOUGH = 0.3


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, SpinningReceiver]]:
    far, near = socket.socketpair()
    with far, near:
        yield far, SpinningReceiver(near)


@pytest.mark.parametrize("lone", [True, False])
def test_what_was_sent_is_received_and_then_the_end(pair: tuple[socket.socket, SpinningReceiver], lone: bool) -> None:
    far, receiver = pair
    for number in range(50):
        sent = bytes([number]) * (number * 1000 + 1)
        far.sendall(sent)
        got = b""
        while len(got) < len(sent):
            got += receiver.receive(lone)
        assert got == sent
    far.shutdown(socket.SHUT_WR)
    assert receiver.receive(lone) == b""
    assert receiver.receive(lone) == b""


@pytest.mark.parametrize("lone", [True, False])
def test_late_data_is_received_without_busy_waiting(pair: tuple[socket.socket, SpinningReceiver], lone: bool) -> None:
    far, receiver = pair
    far.sendall(b"first")
    assert receiver.receive(lone) == b"first"  # at once, so that the next is awaited awake
    later = threading.Timer(ENOUGH, far.sendall, (b"second",))
    later.start()
    began = time.thread_time()
    assert receiver.receive(lone) == b"second"
    assert time.thread_time() - began < ENOUGH / 3 + AWAKE_SECONDS
    later.join()


def test_a_connection_that_breaks_is_an_error_however_it_is_awaited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
        receiver = SpinningReceiver(near)
        far.sendall(b"first")
        assert receiver.receive(True) == b"first"
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()  # with a reset
        with near, pytest.raises(ConnectionResetError):
            receiver.receive(True)
