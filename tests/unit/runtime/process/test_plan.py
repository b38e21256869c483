"""How a replica's process is started, and what it is handed."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from app.core.address import Address
from app.core.environment import Lock
from app.core.inspection import Format, Inspection
from app.core.model import Artifact, Limits
from app.runtime.process.cgroups import Cgroup, Handed
from app.runtime.process.plan import ProcessPlan
from app.runtime.process.replica_end import Outside
from model_container.contract.config import RuntimeConfig
from tests.records import model_version


def plan(folder: Path) -> ProcessPlan:
    model = model_version(
        model_id="iris-1",
        name="iris",
        version="1.0.0",
        artifact=Artifact("model.pkl", "", 0),
        created_at="",
        lock=Lock(python="3.11", text=""),
        inspection=Inspection(Format.PICKLE),
    )
    assert model.variant is not None
    return ProcessPlan(
        model=model,
        variant=model.variant,
        folder=folder,
        limits=Limits(memory_mb=512, cpus=2.5, pids=99),
        place=Path("/run/iris-1/ab"),
        python="/usr/bin/python3.11",
        environment=Path("/environments/0f-2"),
        runtime=Path("/run/runtime-1"),
        address=Address(socket="/sockets/ab.sock"),
        token="secret",
        outside=Outside(Cgroup("v2", {"memory": "/sys/fs/cgroup/ab"}), Handed(join=(5,), kills=6, peak=7), end=8, go=9),
    )


def config(planned: ProcessPlan) -> RuntimeConfig:
    return RuntimeConfig.from_json(planned.variables()["PRISM_RUNTIME"])


def test_a_base_interpreter_runs_the_copy_of_the_runtime_isolated(tmp_path: Path) -> None:
    interpreter, *options, program = plan(tmp_path).command()
    assert interpreter == "/usr/bin/python3.11"
    assert {"-I", "-S"} <= set(options)
    assert program == "/run/runtime-1/model_container/__main__.py"


def test_it_gets_only_variables_that_are_made_for_it(tmp_path: Path) -> None:
    planned = plan(tmp_path)
    variables = planned.variables()
    assert variables["HOME"] == variables["TMPDIR"] == str(planned.work) == "/run/iris-1/ab/work"
    assert variables["OMP_NUM_THREADS"] == "2"
    assert {name for name in variables if not name.endswith(("_THREADS", "_COUNT"))} == {
        *("PATH", "LANG", "HOME", "TMPDIR", "PRISM_RUNTIME")
    }


def test_it_reads_its_model_and_its_packages_and_writes_to_its_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    told = config(plan(tmp_path))
    assert (told.artifact, told.code) == (str(tmp_path / "artifact" / "model.pkl"), str(tmp_path / "code"))
    walls = told.confinement
    assert walls.readable == [
        "/environments/0f-2",
        "/run/runtime-1",
        str(tmp_path / "artifact"),
        str(tmp_path / "code"),
    ]
    assert walls.writable == ["/run/iris-1/ab/work"]
    assert (walls.memory_mb, walls.file_mb, walls.pids) == (512, 512, 99)


def test_without_code_files_no_folder_of_code_is_named(tmp_path: Path) -> None:
    told = config(plan(tmp_path))
    assert told.code == ""
    assert told.confinement.readable == ["/environments/0f-2", "/run/runtime-1", str(tmp_path / "artifact")]


def test_it_listens_where_the_gateway_will_look_and_wants_the_token(tmp_path: Path) -> None:
    told = config(plan(tmp_path))
    assert (told.socket, told.port, told.token) == ("/sockets/ab.sock", 0, "secret")
    by_port = config(structs.replace(plan(tmp_path), address=Address(host="127.0.0.1", port=40001)))
    assert (by_port.socket, by_port.host, by_port.port) == ("", "127.0.0.1", 40001)


def test_it_is_told_of_each_descriptor_that_it_is_handed(tmp_path: Path) -> None:
    planned = plan(tmp_path)
    walls = config(planned).confinement
    assert set(planned.outside.descriptors()) == {5, 6, 7, 8, 9}
    assert (walls.join, walls.kills, walls.peak, walls.end, walls.go) == ([5], 6, 7, 8, 9)
    assert (walls.cgroup, walls.controllers) == ("v2", ["memory"])


def test_the_log_of_a_later_replica_is_in_a_folder_of_its_own(tmp_path: Path) -> None:
    planned = plan(tmp_path)
    assert planned.log_folder == tmp_path
    second = structs.replace(planned, variant=structs.replace(planned.variant, log_folder="replicas/2"))
    assert second.log_folder == tmp_path / "replicas" / "2"
