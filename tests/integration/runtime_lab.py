"""Starts the runtime's program and speaks to it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from model_container.contract.frames import (
    HELLO,
    PING,
    PROTOCOL,
    Answer,
    Frame,
    FrameReader,
    Request,
    decode_answers,
    encode,
    encode_requests,
)
from tests.acceptance.server import wait_for

PROGRAM = Path(__file__).parents[2] / "model_container" / "__main__.py"
DEADLINE_SECONDS = 60.0
TOKEN = "a secret of forty characters, more or less"


class Connection:
    """A gateway's side of one connection."""

    def __init__(self, path: str, token: str = TOKEN, protocol: int = PROTOCOL) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_SECONDS)
        wait_for(lambda: self._connects(path), DEADLINE_SECONDS, "a connection to the runtime")
        self._reader = FrameReader()
        self._frames: list[Frame] = []
        self.send(encode(1, HELLO, json.dumps({"protocol": protocol, "token": token}).encode()))

    def _connects(self, path: str) -> bool:
        try:
            self.socket.connect(path)
        except OSError:
            return False
        return True

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Frame:
        """Raises EOFError when the runtime closes."""
        while not self._frames:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._frames = self._reader.feed(data)
        return self._frames.pop(0)

    def predict(self, *bodies: bytes) -> list[Answer]:
        self.send(encode_requests(7, [Request(body) for body in bodies]))
        frame = self.receive()
        assert frame.id == 7
        return [Answer(*one) for one in decode_answers(frame)[0]]

    def ping(self) -> dict[str, Any]:
        self.send(encode(9, PING))
        pulse: dict[str, Any] = json.loads(self.receive().payload)
        return pulse
