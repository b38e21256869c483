"""Keys that are made while the server runs, on a real disk."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.access.keys import Keys
from app.errors import BadInput, NotFound, Unauthorized
from app.registry.keys import KeyStore
from app.registry.unsaved import Unsaved
from tests.fakes import eventually


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


def test_a_revoked_key_stays_revoked_after_a_restart(path: Path) -> None:
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


def refuse(path: Path, content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse_any(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_key_revoked_on_a_full_disk_stays_revoked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest is overwritten where it stands; a server that is killed the next moment has forgotten nothing."""
    store, keys = opened(path)
    entry, key = store.create("billing")
    other_entry, other = store.create("another")
    monkeypatch.setattr("app.registry.keys.write_atomic", refuse)
    store.revoke(entry.id)
    assert store.saved
    again, keys_again = opened(path)
    assert again.entries() == (other_entry,)
    for one in (keys, keys_again):
        with pytest.raises(Unauthorized):
            one.caller(key, "")
        assert one.caller(other, "")


async def test_a_revocation_that_cannot_be_written_takes_effect_and_is_retried(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsaved = Unsaved(first_pause_seconds=0.01, longest_pause_seconds=0.05)
    store, keys = KeyStore(path, unsaved), Keys(["configured"])
    store.tell(keys)
    entry, key = store.create("billing")
    unsaved.begin()
    with monkeypatch.context() as readonly:
        readonly.setattr("app.registry.keys.write_atomic", refuse)
        readonly.setattr(os, "pwrite", refuse_any)
        store.revoke(entry.id)
        assert not store.saved
        (told,) = unsaved.documents()
        assert (told["what"], told["hint"][:10]) == ("the API keys", "Free some ")
        with pytest.raises(Unauthorized):
            keys.caller(key, "")
        await asyncio.sleep(0.05)
        assert not store.saved
    await eventually(lambda: store.saved)
    assert opened(path)[0].entries() == ()
    await unsaved.end()


async def test_a_revocation_is_tried_once_more_when_the_server_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsaved = Unsaved(first_pause_seconds=1000)
    store = KeyStore(path, unsaved)
    entry, _ = store.create("billing")
    unsaved.begin()
    with monkeypatch.context() as readonly:
        readonly.setattr("app.registry.keys.write_atomic", refuse)
        readonly.setattr(os, "pwrite", refuse_any)
        store.revoke(entry.id)
    await unsaved.end()
    assert opened(path)[0].entries() == ()


def test_a_key_that_could_not_be_recorded_is_not_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = opened(path)
    monkeypatch.setattr("app.registry.keys.write_atomic", refuse)
    with pytest.raises(OSError, match="No space"):
        store.create("billing")
    assert store.entries() == ()


def test_a_late_subscriber_is_notified_of_existing_keys(path: Path) -> None:
    store, _ = opened(path)
    _, key = store.create("billing")
    late = Keys(["configured"])
    store.tell(late)
    assert late.caller(key, "")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "two\nlines", "\x1b[31m"])
def test_a_meaningless_key_name_is_refused(path: Path, name: str) -> None:
    store, _ = opened(path)
    with pytest.raises(BadInput):
        store.create(name)
    assert not path.exists()


@pytest.mark.parametrize(
    ("part", "damaged"), [("}", ""), ('"digest": "', '"digest": "not hexadecimal '), ("{", "["), ("billing", "\udcff")]
)
def test_a_damaged_key_file_is_moved_aside_and_admits_no_key(path: Path, part: str, damaged: str) -> None:
    store, _ = opened(path)
    _, key = store.create("billing")
    path.write_text(path.read_text().replace(part, damaged), errors="surrogateescape")
    with capture_logs() as logged:
        store, keys = opened(path)
    assert store.entries() == ()
    with pytest.raises(Unauthorized):
        keys.caller(key, "")
    assert [one["log_level"] for one in logged] == ["error"]
    assert len(list(path.parent.glob("keys.json.corrupt-*"))) == 1
