"""A plan of a container."""

from __future__ import annotations

from pathlib import Path

from app.core.environment import Lock
from app.core.inspection import Format, Inspection
from app.core.model import Artifact, Limits
from app.runtime.docker.container import Plan
from tests.records import model_version


def plan(folder: Path, has_socket: bool = True) -> Plan:
    model = model_version(
        model_id="iris-1",
        name="iris",
        version="1.0.0",
        artifact=Artifact("model.onnx", "", 0),
        created_at="",
        lock=Lock(python="3.11", text=""),
        inspection=Inspection(Format.ONNX),
    )
    assert model.variant is not None
    return Plan(
        name="prism_iris-1_ab",
        home="home",
        network="prism_home",
        image="prism_model_iris-1",
        model=model,
        variant=model.variant,
        folder=folder,
        limits=Limits(memory_mb=512, cpus=2.5, pids=99),
        has_socket=has_socket,
        token="secret",
        started_at="2026-01-01T00:00:00+00:00",
    )
