from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from msgspec import structs

from app.core.model import Deployment, Replica, Restart, Status, TargetName
from app.errors import Conflict
from app.registry.containers import ContainersFile

REPLICA = Replica("m1", TargetName.PROCESS, "1:1", "token", "now", socket="/s", pid=1)


def deployment(model_id: str) -> Deployment:
    return Deployment(
        model_id,
        "iris",
        "1.0.0",
        Status.LIVE,
        True,
        TargetName.PROCESS,
        (REPLICA,),
        restarts=(Restart("t", "why", ("l",)),),
    )


async def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    registry = ContainersFile(tmp_path / "containers.json")
    await asyncio.gather(*(registry.save(deployment(f"m{n}")) for n in range(20)))
    await registry.remove("m3")
    again = ContainersFile(tmp_path / "containers.json")
    assert again.load() is True
    assert {one.model_id for one in again.all()} == {f"m{n}" for n in range(20)} - {"m3"}
    assert again.get("m1") == deployment("m1")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"deployments": {"m1": {"name": 3}}}', b"\x00" * 100, b'{"deployments": "\xff"}', b'{"a":' * 100_000],
)
async def test_a_corrupt_file_is_set_aside_and_never_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "containers.json"
    path.write_bytes(content)
    registry = ContainersFile(path)
    assert registry.load() is False
    await registry.save(deployment("m1"))
    (aside,) = tmp_path.glob("containers.json.corrupt-*")
    assert aside.read_bytes() == content
    assert json.loads(path.read_bytes())["deployments"].keys() == {"m1"}


def test_a_second_server_on_the_same_registry_is_refused(tmp_path: Path) -> None:
    first, second = (ContainersFile(tmp_path / "containers.json") for _ in range(2))
    first.acquire()
    with pytest.raises(Conflict, match="Another PRISM server"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


async def test_a_cancelled_save_is_still_written_and_in_turn(tmp_path: Path) -> None:
    registry = ContainersFile(tmp_path / "containers.json")
    first = asyncio.create_task(registry.save(deployment("m1")))
    await asyncio.sleep(0)
    first.cancel()
    await registry.save(deployment("m2"))
    again = ContainersFile(tmp_path / "containers.json")
    again.load()
    assert {one.model_id for one in again.all()} == {"m1", "m2"}


async def test_a_file_of_the_version_with_one_replica_is_read_as_it_is(tmp_path: Path) -> None:
    registry = ContainersFile(tmp_path / "containers.json")
    for model_id in ("m1", "m2"):
        await registry.save(deployment(model_id))
    path = tmp_path / "containers.json"
    earlier = json.loads(path.read_text())
    earlier["format"] = 1
    first, second = earlier["deployments"]["m1"], earlier["deployments"]["m2"]
    first["replica"] = {key: value for key, value in first.pop("replicas")[0].items() if key != "number"}
    del second["replicas"]
    second["replica"] = None
    path.write_text(json.dumps(earlier))
    again = ContainersFile(path)
    assert again.load() is True
    assert again.get("m1") == deployment("m1")
    assert again.get("m2") == structs.replace(deployment("m2"), replicas=())
