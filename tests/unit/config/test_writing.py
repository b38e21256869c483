"""Two commands that change config.yaml at the same time both have their way."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import Thread

import pytest

from app.config import writing
from app.config.edit import with_value
from app.config.writing import change
from app.errors import Conflict

WHILE_THE_OTHER_WAITS_SECONDS = 0.3


def test_a_change_waits_for_another_and_neither_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    other = Thread(target=change, args=(path, lambda text: with_value(text, "host", "localhost")))

    def slowly(text: str | None) -> str:
        other.start()
        other.join(WHILE_THE_OTHER_WAITS_SECONDS)  # without the lock it ends within this time, and its change is lost
        return with_value(text, "port", "9000")

    change(path, slowly)
    other.join()
    assert "  port: 9000\n  host: localhost\n" in path.read_text()
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_a_change_by_a_program_that_takes_no_lock_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    def meanwhile(text: str | None) -> str:
        path.write_text("# by an editor\n")
        return with_value(text, "port", "9000")

    with pytest.raises(Conflict, match="changed by another program"):
        change(path, meanwhile)
    assert path.read_text() == "# by an editor\n"


def test_a_lock_that_is_never_given_back_is_an_error_with_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.0)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="Another command"):
            change(tmp_path / "config.yaml", lambda text: "x")
    finally:
        os.close(folder)
