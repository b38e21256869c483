from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from msgspec import Struct

from app.core.acceleration import Acceleration
from app.core.model import Artifact, Deployment, Findings, Replica, Spec, Status, TargetName
from app.core.route_table import refs_of
from app.lifecycle.acceleration.accelerator import AccelerationChanges
from app.lifecycle.state import DeploymentChanges, DeploymentState, FindingsChanges, SpecChanges
from app.registry.containers import ContainersFile
from app.registry.models import ModelStore
from tests.records import model_version


@pytest.fixture
async def ledger(tmp_path: Path) -> DeploymentState:
    """Models in every status, with and without a replica and one that is coming, two versions of each name."""
    ledger = DeploymentState(ModelStore(tmp_path / "models"), ContainersFile(tmp_path / "containers.json"))
    for number, (status, runs, coming) in enumerate(product(Status, (True, False), (True, False))):
        for version in ("1.0.0", "1.1.0"):
            model_id = f"m{number}-{version[2]}"
            model = model_version(
                model_id, f"model-{number // 3}", f"{version}-{number}", Artifact("a.pkl", "0" * 64, 1), "2026"
            )
            await ledger.add(model, wanted=number % 5 != 0, status=status)
            replicas = (Replica(model_id, TargetName.PROCESS, "1:1", "t", ""),) if runs else ()
            await ledger.update(model_id, replicas=replicas, live_at=f"2026-{number % 4}-{version}")
            ledger.expect(model_id, coming=coming)
    return ledger


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


async def test_the_live_endpoint_of_a_reference_is_that_of_the_whole_route_table(ledger: DeploymentState) -> None:
    table = ledger.route_table()
    refs = {ref for one in ledger.deployments() for ref in refs_of(one)} | {"nobody"}
    assert {ref: ledger.live_endpoint(ref) for ref in refs} == {ref: table.live.get(ref) for ref in refs}
    assert table.live
    assert table.awaited


async def test_a_reference_finds_the_version_that_serves_or_is_coming(ledger: DeploymentState) -> None:
    table = ledger.route_table()
    endpoints = {ref: endpoint for ref in {*table.absent, *table.live} if (endpoint := table.endpoint(ref)) is not None}
    by_name = {ref: endpoint.model_id for ref, endpoint in endpoints.items() if ledger.model(ref) is None}
    assert by_name
    assert {ref: ledger.find(ref).model_id for ref in by_name} == by_name
