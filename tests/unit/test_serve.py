"""The port of a server that is about to start: it may still be another's for a moment."""

from __future__ import annotations

import socket

import pytest

from app.errors import InvalidSetting
from app.serve import bind
from app.settings import Settings


@pytest.fixture
def taken() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def settings_for(listener: socket.socket) -> Settings:
    return Settings(host="127.0.0.1", port=listener.getsockname()[1])


def test_a_port_that_becomes_free_is_waited_for_and_told_once(taken: socket.socket) -> None:
    settings, told = settings_for(taken), list[str]()

    def leave(text: str) -> None:
        told.append(text)
        taken.close()

    with bind(settings, leave, patience_seconds=60) as listener:
        assert listener.getsockname()[1] == settings.port
    assert len(told) == 1
    assert "still in use" in told[0]


def test_a_port_that_stays_in_use_is_an_error_with_a_next_step(taken: socket.socket) -> None:
    with taken, pytest.raises(InvalidSetting, match=r"cannot listen on 127\.0\.0\.1") as raised:
        bind(settings_for(taken), lambda text: None, patience_seconds=0.1)
    assert "prism run 8001" in raised.value.hint


def test_another_reason_is_told_at_once() -> None:
    with pytest.raises(InvalidSetting, match=r"cannot listen on 203\.0\.113\.1"):
        bind(Settings(host="203.0.113.1", port=8000), pytest.fail)
