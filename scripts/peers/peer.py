"""What there is to measure: each folder beside this file with a `peer.toml` is one peer, its files what its user writes.

In commands, environments and bodies `{port}` (also `{second_port}`, `{third_port}`), `{work}`, `{cache}`, `{columns}` and `{row}`
are replaced. A folder is copied before it runs, and the copy also holds `model.joblib` and `model.onnx`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).resolve().parent
ECHO = "echo"


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to run a peer. prepare: run before the server; deploy: run once it listens. path, body: else the peer's."""

    name: str
    command: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    deploy: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    path: str = ""
    body: str = ""


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """answer: where in the JSON answer the one prediction stands; empty if the answer is the request itself."""

    title: str
    path: str
    body: str
    settings: tuple[Setting, ...]
    answer: tuple[str | int, ...] = ()
    headers: dict[str, str] = {}
    environment: dict[str, str] = {}


def peer_names() -> list[str]:
    """The peers in the order of their tables, the echo left out."""
    return sorted(file.parent.name for file in FOLDER.glob("*/peer.toml") if file.parent.name != ECHO)


def read_peer(name: str) -> Peer:
    return msgspec.toml.decode((FOLDER / name / "peer.toml").read_bytes(), type=Peer)


def fill(text: str, values: Mapping[str, object]) -> str:
    """`text` with each `{name}` of `values` replaced; other braces, as JSON has them, stay."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def bodies(template: str, rows: Sequence[Sequence[float]]) -> list[str]:
    """One request body for each row, in the peer's dialect."""
    return [fill(template, {"row": json.dumps(list(row)), "columns": len(row)}) for row in rows]


def prediction_in(answer: bytes, where: Sequence[str | int]) -> float:
    """The prediction at `where`. Raises ValueError, with the answer in it, if there is no number."""
    try:
        value: Any = json.loads(answer)
        for step in where:
            value = value[step]
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        return float(value)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"no prediction at {list(where)} of {answer[:200]!r}") from error
