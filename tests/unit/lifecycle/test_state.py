from __future__ import annotations

import asyncio
import os
import shutil
from itertools import product
from pathlib import Path

import pytest
from msgspec import Struct

from app.core.acceleration import Acceleration
from app.core.environment import Lock
from app.core.model import Artifact, Deployment, Findings, Replica, Spec, Status
from app.core.route_table import refs_of
from app.errors import NotFound
from app.lifecycle.acceleration.accelerator import AccelerationChanges
from app.lifecycle.state import DeploymentChanges, DeploymentState, FindingsChanges, SpecChanges
from app.registry.containers import ContainersFile
from app.registry.models import ModelStore
from tests.fakes import eventually
from tests.records import model_version
from tests.unit.lifecycle.disk_lab import SlowDisk


@pytest.fixture
async def mixed_state(tmp_path: Path) -> DeploymentState:
    """Models in every status, with and without a replica and one that is coming, two versions of each name."""
    mixed_state = DeploymentState(ModelStore(tmp_path / "models"), ContainersFile(tmp_path / "containers.json"))
    for number, (status, runs, coming) in enumerate(product(Status, (True, False), (True, False))):
        for version in ("1.0.0", "1.1.0"):
            model_id = f"m{number}-{version[2]}"
            model = model_version(
                model_id, f"model-{number // 3}", f"{version}-{number}", Artifact("a.pkl", "0" * 64, 1), "2026"
            )
            await mixed_state.add(model, wanted=number % 5 != 0, status=status)
            replicas = (Replica(model_id, "process", "1:1", "t", ""),) if runs else ()
            await mixed_state.update(model_id, replicas=replicas, live_at=f"2026-{number % 4}-{version}")
            mixed_state.expect(model_id, coming=coming)
    return mixed_state


@pytest.mark.parametrize(
    ("changes", "record"),
    [
        (SpecChanges, Spec),
        (FindingsChanges, Findings),
        (DeploymentChanges, Deployment),
        (AccelerationChanges, Acceleration),
    ],
)
def test_a_change_names_only_fields_of_its_record(changes: type, record: type[Struct]) -> None:
    assert set(changes.__annotations__) <= set(record.__struct_fields__)


async def test_the_live_endpoint_of_a_reference_is_that_of_the_whole_route_table(mixed_state: DeploymentState) -> None:
    table = mixed_state.route_table()
    refs = {ref for one in mixed_state.deployments() for ref in refs_of(one)} | {"nobody"}
    assert {ref: mixed_state.live_endpoint(ref) for ref in refs} == {ref: table.live.get(ref) for ref in refs}
    assert table.live
    assert table.awaited


async def test_a_reference_resolves_to_the_version_that_serves_or_is_starting(mixed_state: DeploymentState) -> None:
    table = mixed_state.route_table()
    endpoints = {ref: endpoint for ref in {*table.absent, *table.live} if (endpoint := table.endpoint(ref)) is not None}
    by_name = {ref: endpoint.model_id for ref, endpoint in endpoints.items() if mixed_state.model(ref) is None}
    assert by_name
    assert {ref: mixed_state.find(ref).model_id for ref in by_name} == by_name


@pytest.fixture
async def iris(tmp_path: Path) -> DeploymentState:
    """One model, `m1`."""
    iris_state = state(tmp_path)
    artifact = Artifact("iris.pkl", "0" * 64, 1)
    await iris_state.add(model_version("m1", "iris", "1.0.0", artifact, "2026"), wanted=True, status=Status.BUILT)
    return iris_state


def state(folder: Path) -> DeploymentState:
    """Return what a gateway that starts now would know."""
    store, registry = ModelStore(folder / "models"), ContainersFile(folder / "containers.json")
    store.load()
    registry.load()
    return DeploymentState(store, registry)


async def test_the_loop_turns_while_a_slow_disk_writes_a_record(
    iris: DeploymentState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, os, "fsync")
    scaling = asyncio.create_task(iris.record_spec("m1", replicas=2))
    await disk.reached()
    assert iris.find("m1").spec.replicas == 1
    disk.release()
    assert (await scaling).spec.replicas == 2
    assert iris.find("m1").spec.replicas == state(tmp_path).find("m1").spec.replicas == 2


async def test_the_loop_turns_while_a_slow_disk_removes_files(
    iris: DeploymentState, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, shutil, "rmtree")
    removing = asyncio.create_task(iris.remove("m1"))
    await disk.reached()
    assert iris.model("m1") is None
    assert iris.folder("m1").exists()
    disk.release()
    await removing
    assert not iris.folder("m1").exists()
    assert not iris.deployments()


async def test_changes_at_once_keep_the_facts_of_each(
    iris: DeploymentState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, os, "fsync")
    changes = (
        iris.record_findings("m1", lock=Lock("3.11", "")),
        iris.record_spec("m1", replicas=2),
        iris.note_findings("m1", sample=[1]),
    )
    steps = asyncio.gather(*changes)
    await disk.reached()
    disk.release()
    await steps
    for model in (iris.find("m1"), state(tmp_path).find("m1")):
        assert (model.findings.lock, model.spec.replicas, model.findings.sample) == (Lock("3.11", ""), 2, [1])


async def test_a_change_whose_caller_is_cancelled_comes_to_its_end_before_the_next_one(
    iris: DeploymentState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, os, "fsync")
    cancelled = asyncio.create_task(iris.record_spec("m1", replicas=2))
    await disk.reached()
    cancelled.cancel()
    noting = asyncio.create_task(iris.note_findings("m1", sample=[1]))
    disk.release()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await noting
    for model in (iris.find("m1"), state(tmp_path).find("m1")):
        assert (model.spec.replicas, model.findings.sample) == (2, [1])


async def test_a_cancelled_caller_goes_on_when_its_change_is_seen(
    iris: DeploymentState, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, os, "fsync")
    seen: list[int] = []

    async def scale() -> None:
        try:
            await iris.record_spec("m1", replicas=2)
        finally:
            seen.append(iris.find("m1").spec.replicas)

    scaling = asyncio.create_task(scale())
    await disk.reached()
    scaling.cancel()
    asyncio.get_running_loop().call_later(0.01, disk.release)
    with pytest.raises(asyncio.CancelledError):
        await scaling
    assert seen == [2]


async def test_a_model_has_a_deployment_as_soon_as_it_is_seen(
    iris: DeploymentState, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, os, "fsync")
    newer = model_version("m2", "iris", "1.1.0", Artifact("iris.pkl", "0" * 64, 1), "2027")
    adding = asyncio.create_task(iris.add(newer, wanted=True, status=Status.RECEIVED))
    await disk.reached()
    assert iris.model("m2") is None
    disk.release()
    await eventually(lambda: [iris.deployment(model.model_id) for model in iris.models()][1:])
    await adding
    assert iris.find("iris@1.1.0") == newer


async def test_a_change_of_a_model_that_was_deleted_is_refused(iris: DeploymentState) -> None:
    removing, scaling = iris.remove("m1"), iris.record_spec("m1", replicas=2)
    removed, scaled = await asyncio.gather(removing, scaling, return_exceptions=True)
    assert removed is None
    assert isinstance(scaled, NotFound)
    assert not iris.folder("m1").exists()
    assert iris.versions("iris") == ()
