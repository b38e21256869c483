from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from msgspec import structs

from app.core.address import Address
from app.core.model import Deployment, Replica, Restart, Status
from app.errors import Conflict
from app.registry.containers import ContainersFile

REPLICA = Replica("m1", "process", "1:1", "token", "now", Address(socket="/s"), pid=1)


def deployment(model_id: str) -> Deployment:
    return Deployment(
        model_id,
        "iris",
        "1.0.0",
        Status.LIVE,
        True,
        "process",
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
    [
        b"",
        b"{",
        b'{"deployments": {"m1": {"name": 3}}}',
        b"\x00" * 100,
        b'{"deployments": "\xff"}',
        b'{"a":' * 100_000,
        b'{"deployments": {"m1": {"replicas": [3]}}}',
    ],
)
async def test_a_corrupt_registry_is_moved_aside_and_never_overwritten(tmp_path: Path, content: bytes) -> None:
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


async def test_a_cancelled_save_is_still_written_in_order(tmp_path: Path) -> None:
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
    first["replica"] = first.pop("replicas")[0]
    del first["replica"]["number"], first["replica"]["address"]
    first["replica"]["socket"] = "/s"
    del second["replicas"]
    second["replica"] = None
    path.write_text(json.dumps(earlier))
    again = ContainersFile(path)
    assert again.load() is True
    assert again.get("m1") == deployment("m1")
    assert again.get("m2") == structs.replace(deployment("m2"), replicas=())


FORMAT_2 = """\
{
  "deployments": {
    "iris-1": {
      "model_id": "iris-1",
      "name": "iris",
      "version": "1.0.0",
      "status": "live",
      "wanted": true,
      "target": "docker",
      "replicas": [
        {
          "model_id": "iris-1",
          "target": "docker",
          "id": "5e3b",
          "token": "secret",
          "started_at": "2026-11-29T10:40:00+00:00",
          "socket": "/proc/4711/root/run/prism/model.sock",
          "port": 32768,
          "image": "prism_model_iris-1",
          "pid": 4711,
          "form": "original",
          "number": 1
        },
        {
          "model_id": "iris-1",
          "target": "docker",
          "id": "5e3c",
          "token": "secret",
          "started_at": "2026-11-29T10:41:00+00:00",
          "socket": "",
          "port": 32769,
          "image": "prism_model_iris-1",
          "pid": 4712,
          "form": "accelerated",
          "number": 2
        }
      ],
      "created_at": "2026-11-29T10:39:00+00:00",
      "updated_at": "",
      "live_at": "2026-11-29T10:40:01+00:00",
      "error": null,
      "restarts": [],
      "metadata": {},
      "bounds": {
        "max_batch_size": null,
        "queue_length": null,
        "batch_window_ms": null,
        "predict_timeout_seconds": null
      }
    }
  },
  "format": 2
}
"""
"""A file as PRISM wrote it before replicas had an address."""


async def test_a_file_of_the_version_with_sockets_and_ports_gives_each_replica_its_address(tmp_path: Path) -> None:
    path = tmp_path / "containers.json"
    path.write_text(FORMAT_2)
    registry = ContainersFile(path)
    assert registry.load() is True
    found = registry.get("iris-1")
    assert found
    assert (found.target, found.status, found.live_at) == ("docker", Status.LIVE, "2026-11-29T10:40:01+00:00")
    assert [replica.address for replica in found.replicas] == [
        Address("/proc/4711/root/run/prism/model.sock", "127.0.0.1", 32768),
        Address(host="127.0.0.1", port=32769),
    ]
    assert [(one.id, one.token, one.pid, one.variant, one.number) for one in found.replicas] == [
        ("5e3b", "secret", 4711, "original", 1),
        ("5e3c", "secret", 4712, "accelerated", 2),
    ]
    await registry.save(found)
    again = ContainersFile(path)
    assert again.load() is True
    assert again.get("iris-1") == found
