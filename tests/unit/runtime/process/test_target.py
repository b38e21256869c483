from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.core.address import Address
from app.core.model import VariantName
from app.runtime.process import tree as process_tree
from app.runtime.process.target import ProcessTarget

RECORD = (
    '{"home":"home","replica":{"model_id":"wine-2","target":"process","id":"ID","token":"secret",'
    '"started_at":"2026-11-29T10:41:00+00:00","socket":"/run/user/1000/prism-1000-ab/0f.sock","port":0,"image":"",'
    '"pid":4712,"form":"accelerated","number":2},"folder":"/models/wine-2","cgroup":null}'
)
"""A record as PRISM wrote it before replicas had an address."""


@pytest.mark.parametrize(
    ("reached_by", "address"),
    [
        ('"socket":"/run/user/1000/prism-1000-ab/0f.sock","port":0', Address("/run/user/1000/prism-1000-ab/0f.sock")),
        ('"socket":"","port":40001', Address(host="127.0.0.1", port=40001)),
    ],
    ids=["socket", "port"],
)
async def test_a_replica_that_an_earlier_prism_recorded_is_found(
    tmp_path: Path, reached_by: str, address: Address
) -> None:
    record = RECORD.replace('"socket":"/run/user/1000/prism-1000-ab/0f.sock","port":0', reached_by)
    place = tmp_path / "run" / "wine-2" / "ab"
    place.mkdir(parents=True)
    (place / "replica.json").write_text(record.replace("ID", process_tree.identity(os.getpid())))
    (replica,) = await ProcessTarget(tmp_path, tmp_path / "run", tmp_path, 1, "home").replicas()
    assert replica.address == address
    assert (replica.token, replica.pid, replica.variant, replica.number) == ("secret", 4712, VariantName.ACCELERATED, 2)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"home": "home", "replica": 3, "folder": ""}'])
async def test_a_record_that_cannot_be_read_is_of_no_replica(tmp_path: Path, content: str) -> None:
    place = tmp_path / "run" / "wine-2" / "ab"
    place.mkdir(parents=True)
    (place / "replica.json").write_text(content)
    assert await ProcessTarget(tmp_path, tmp_path / "run", tmp_path, 1, "home").replicas() == ()
