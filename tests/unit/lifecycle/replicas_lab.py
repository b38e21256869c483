"""Models with several replicas in the lifecycle's house."""

from __future__ import annotations

from typing import Any

from app.core.model import ModelVersion, Replica
from tests.records import with_facts
from tests.unit.lifecycle.house_lab import House

ID = "a" * 12


async def with_replicas(home: House, number: int, model_id: str = ID, **changes: Any) -> ModelVersion:
    model = await home.add(model_id)
    await home.store.save(with_facts(model, replicas=number, **changes))
    await home.deployments.start(model)
    await home.deployments.settled(model_id)
    return home.state.find(model_id)


def numbers(home: House, model_id: str = ID) -> list[int]:
    return [one.number for one in home.state.deployment(model_id).replicas]


def replicas(home: House, model_id: str = ID) -> tuple[Replica, ...]:
    return home.state.deployment(model_id).replicas
