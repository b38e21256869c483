"""A network where the engine has no range of addresses left, which would stop other tests if a real one had none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from docker import DockerClient
from docker.errors import APIError

from app.errors import StartFailed
from app.runtime.docker.network import ensure_network

OLD = datetime.now(UTC) - timedelta(hours=1)


class Network:
    """A network as docker-py shows it. The list of networks does not say which containers are in one."""

    def __init__(self, engine: CrowdedEngine, name: str, *containers: str, created: datetime = OLD) -> None:
        self.name = name
        self.attrs: dict[str, Any] = {}
        self._engine = engine
        self._facts = {"Containers": dict.fromkeys(containers), "Created": created.strftime("%FT%T.123456789Z")}

    def reload(self) -> None:
        self.attrs = self._facts

    def remove(self) -> None:
        self._engine.all.remove(self)


class CrowdedEngine:
    """An engine with room for so many networks. It is its own `networks`, as docker-py's client has them."""

    def __init__(self, room: int, words: str) -> None:
        self.all: list[Network] = []
        self._room = room
        self._words = words

    @property
    def networks(self) -> CrowdedEngine:
        return self

    @property
    def names(self) -> set[str]:
        return {network.name for network in self.all}

    def list(self, names: list[str] | None = None, filters: dict[str, str] | None = None) -> list[Network]:
        if names is not None:
            return [network for network in self.all if f"^{network.name}$" in names]
        assert filters == {"label": "prism.home"}
        return [network for network in self.all if network.name.startswith("prism_")]

    def create(self, name: str, **_: Any) -> None:
        if len(self.all) >= self._room:
            raise APIError(self._words)
        self.all.append(Network(self, name))


@pytest.fixture(
    params=[
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        "all predefined address pools have been fully subnetted",
    ],
    ids=["engine 20", "engine 27"],
)
def engine(request: pytest.FixtureRequest) -> CrowdedEngine:
    return CrowdedEngine(4, request.param)


def test_networks_of_servers_that_are_gone_make_room(engine: CrowdedEngine) -> None:
    engine.all = [
        Network(engine, "prism_gone"),
        Network(engine, "prism_in_use", "a container"),
        Network(engine, "prism_starting", created=datetime.now(UTC)),
        Network(engine, "somebody_else"),
    ]
    ensure_network(cast(DockerClient, engine), "prism_new", "new")
    assert engine.names == {"prism_in_use", "prism_starting", "somebody_else", "prism_new"}


def test_without_room_the_error_says_what_to_remove(engine: CrowdedEngine) -> None:
    engine.all = [Network(engine, f"other_{number}") for number in range(4)]
    with pytest.raises(StartFailed, match="no range of addresses left") as refused:
        ensure_network(cast(DockerClient, engine), "prism_new", "new")
    assert "docker network prune" in refused.value.hint


def test_another_refusal_of_the_engine_is_not_touched() -> None:
    crowded = CrowdedEngine(0, "permission denied")
    with pytest.raises(APIError, match="permission denied"):
        ensure_network(cast(DockerClient, crowded), "prism_new", "new")
