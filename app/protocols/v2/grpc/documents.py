"""Converts the documents of REST to messages, where their forms differ."""

from __future__ import annotations

from typing import Any

from app.protocols.v2.grpc import inference_pb2 as messages

UNTOLD = "TYPE_INVALID"
"""Triton's name for an unknown datatype."""


def model_config(document: dict[str, Any]) -> messages.ModelConfig:
    """Convert a model's configuration.

    It has no version policy, in which versions are numbers, and no parameters, as there are none.
    """
    members = {key: value for key, value in document.items() if key not in ("version_policy", "parameters")}
    return messages.ModelConfig(**{**members, "input": _typed(members["input"]), "output": _typed(members["output"])})


def _typed(ports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = messages.DataType.keys()
    return [{**port, "data_type": port["data_type"] if port["data_type"] in known else UNTOLD} for port in ports]
