"""Keys that are made while the server runs, on a real disk."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.dispatch.admit import Keys
from app.errors import BadInput, NotFound, Unauthorized
from app.registry.keys import KeyStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry" / "keys.json"


def opened(path: Path) -> tuple[KeyStore, Keys]:
    """The store as a server's start opens it."""
    store, keys = KeyStore(path), Keys(["configured"])
    store.tell(keys)
    store.load()
    return store, keys


def test_a_key_is_valid_as_soon_as_it_is_made_and_after_a_restart(path: Path) -> None:
    store, keys = opened(path)
    entry, key = store.create("billing")
    assert key.startswith("prism_")
    assert len(key) > 40
    assert entry.hint == key[-4:]
    assert keys.caller(key, "")
    again, keys_again = opened(path)
    assert again.entries() == (entry,)
    assert keys_again.caller(key, "")


def test_the_file_holds_no_key_and_is_readable_by_its_owner_alone(path: Path) -> None:
    store, _ = opened(path)
    _, key = store.create("billing")
    assert key not in path.read_text()
    assert key.removeprefix("prism_") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (entry,) = json.loads(path.read_text())["keys"]
    assert entry.keys() == {"id", "name", "created_at", "digest", "hint"}


def test_a_revoked_key_is_valid_no_more_and_stays_so_after_a_restart(path: Path) -> None:
    store, keys = opened(path)
    entry, key = store.create("billing")
    _, other = store.create("billing")
    store.revoke(entry.id)
    for one in (keys, opened(path)[1]):
        with pytest.raises(Unauthorized):
            one.caller(key, "")
        assert one.caller(other, "")
    with pytest.raises(NotFound):
        store.revoke(entry.id)


def test_a_key_is_revoked_even_if_the_disk_refuses_to_record_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, keys = opened(path)
    entry, key = store.create("billing")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.registry.keys.write_atomic", full)
    with pytest.raises(OSError, match="No space"):
        store.revoke(entry.id)
    with pytest.raises(Unauthorized):
        keys.caller(key, "")


def test_a_key_that_could_not_be_recorded_is_not_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = opened(path)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.registry.keys.write_atomic", full)
    with pytest.raises(OSError, match="No space"):
        store.create("billing")
    assert store.entries() == ()


def test_who_listens_later_is_told_of_the_keys_that_are_there(path: Path) -> None:
    store, _ = opened(path)
    _, key = store.create("billing")
    late = Keys(["configured"])
    store.tell(late)
    assert late.caller(key, "")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "two\nlines", "\x1b[31m"])
def test_a_name_that_tells_nothing_is_refused(path: Path, name: str) -> None:
    store, _ = opened(path)
    with pytest.raises(BadInput):
        store.create(name)
    assert not path.exists()


@pytest.mark.parametrize(("part", "damaged"), [("}", ""), ('"digest": "', '"digest": "not hexadecimal '), ("{", "[")])
def test_a_damaged_file_is_set_aside_and_opens_nothing(path: Path, part: str, damaged: str) -> None:
    store, _ = opened(path)
    _, key = store.create("billing")
    path.write_text(path.read_text().replace(part, damaged))
    with capture_logs() as logged:
        store, keys = opened(path)
    assert store.entries() == ()
    with pytest.raises(Unauthorized):
        keys.caller(key, "")
    assert [one["log_level"] for one in logged] == ["error"]
    assert len(list(path.parent.glob("keys.json.corrupt-*"))) == 1
