"""Records of models that a disk damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.registry.models import ModelStore


@pytest.mark.parametrize("content", [b"", b"{", b'{"model_id": "\xff"}', b'{"a":' * 100_000])
def test_a_record_that_is_damaged_is_left_where_it_is_and_reported(tmp_path: Path, content: bytes) -> None:
    record = tmp_path / "m1" / "model.json"
    record.parent.mkdir()
    record.write_bytes(content)
    store = ModelStore(tmp_path)
    with capture_logs() as logged:
        store.load()
    assert store.all() == ()
    assert [one["path"] for one in logged] == [str(record)]
    assert record.read_bytes() == content
