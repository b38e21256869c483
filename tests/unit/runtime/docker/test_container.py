"""How a container is created, and what an inspection says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.address import Address
from app.runtime.docker.container import replica_of, state_of
from model_container.contract.config import RuntimeConfig
from tests.unit.runtime.docker.plan_lab import plan


def inspection(**state: Any) -> dict[str, Any]:
    ended = {"Running": False, "Paused": False, "OOMKilled": False, "ExitCode": 0, "Error": "", "Pid": 0}
    return {
        "Id": "abc",
        "State": {**ended, **state},
        "HostConfig": {"Memory": 512 << 20},
        "Config": {"Labels": {}, "Image": "prism_model_iris-1"},
        "NetworkSettings": {"Ports": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}},
    }


def test_a_container_gets_limits_and_no_rights(tmp_path: Path) -> None:
    options = plan(tmp_path).options()
    assert options["read_only"]
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges"]
    assert options["mem_limit"] == options["memswap_limit"] == 512 << 20
    assert options["nano_cpus"] == 2_500_000_000
    assert options["pids_limit"] == 99
    assert not options["user"].startswith("0:")
    assert options["ports"] == {"8080/tcp": ("127.0.0.1", None)}
    assert options["ulimits"] == [{"name": "fsize", "soft": 512 << 20, "hard": 512 << 20}]


def test_everything_a_container_can_write_to_is_in_memory_and_limited(tmp_path: Path) -> None:
    options = plan(tmp_path).options()
    assert "volumes" not in options
    assert set(options["tmpfs"]) == {"/tmp", "/run/prism"}
    for mounted in options["tmpfs"].values():
        assert "noexec,nosuid,nodev" in mounted
        assert ",size=" in mounted


def test_the_runtime_listens_on_its_socket_and_its_port_with_a_token(tmp_path: Path) -> None:
    config = RuntimeConfig.from_json(plan(tmp_path).options()["environment"]["PRISM_RUNTIME"])
    assert (config.socket, config.port, config.token) == ("/run/prism/model.sock", 8080, "secret")
    assert config.threads == 2
    assert config.confinement.seccomp


def test_where_the_engine_is_on_another_machine_there_is_no_socket_and_no_place_for_one(tmp_path: Path) -> None:
    without = plan(tmp_path, has_socket=False)
    assert without.socket == ""
    assert set(without.options()["tmpfs"]) == {"/tmp"}
    assert without.runtime_config().socket == ""


def test_a_replica_is_rebuilt_from_its_labels(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    seen = inspection(Running=True, Pid=42)
    seen["Config"]["Labels"] = wanted.labels()
    replica = replica_of(seen)
    assert replica
    assert (replica.model_id, replica.id, replica.pid) == ("iris-1", "abc", 42)
    assert (replica.token, replica.started_at) == ("secret", wanted.started_at)
    assert replica.address == Address("/proc/42/root/run/prism/model.sock", "127.0.0.1", 32768)


def test_a_container_of_an_earlier_version_is_reached_by_its_port_and_not_through_its_folder(tmp_path: Path) -> None:
    seen = inspection(Running=True, Pid=42)
    seen["Config"]["Labels"] = {**plan(tmp_path).labels(), "prism.socket": str(tmp_path / "model.sock")}
    replica = replica_of(seen)
    assert replica
    assert replica.address == Address(host="127.0.0.1", port=32768)


@pytest.mark.parametrize("published", [{"HostPort": "32768"}, {"HostIp": "", "HostPort": "32768"}])
def test_a_port_without_an_address_is_one_of_the_loopback_interface(tmp_path: Path, published: dict[str, str]) -> None:
    seen = inspection(Running=True, Pid=42)
    seen["Config"]["Labels"] = {**plan(tmp_path).labels(), "prism.socket": ""}
    seen["NetworkSettings"]["Ports"]["8080/tcp"] = [published]
    replica = replica_of(seen)
    assert replica
    assert replica.address == Address(host="127.0.0.1", port=32768)


@pytest.mark.parametrize("labels", [None, {}, {"prism.home": "home", "prism.model_id": "iris-1"}])
def test_a_container_without_all_prism_labels_is_not_a_replica(labels: dict[str, str] | None) -> None:
    seen = inspection(Running=True)
    seen["Config"]["Labels"] = labels
    assert replica_of(seen) is None


@pytest.mark.parametrize(
    ("state", "detail"),
    [
        ({"ExitCode": 137, "OOMKilled": True}, "killed by the out-of-memory killer (limit 512 MiB)"),
        ({"ExitCode": 137}, "killed by signal 9"),
        ({"ExitCode": 3}, "exited with code 3"),
        ({"ExitCode": 127, "Error": "no such file"}, "could not be started: no such file"),
    ],
)
def test_an_ended_container_says_why(state: dict[str, Any], detail: str) -> None:
    found = state_of(inspection(**state))
    assert not found.running
    assert found.detail == detail


def test_a_paused_container_runs_but_is_frozen() -> None:
    found = state_of(inspection(Running=True, Paused=True))
    assert found.running
    assert found.frozen
