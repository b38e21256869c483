"""The Docker target with a real engine, real images, real containers and the real runtime."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import io
import json
import os
import signal
import socket
import stat
import sys
import textwrap
import threading
import urllib.request
import warnings
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import msgspec
import numpy as np
import psutil
import pytest
import tritonclient.http as triton

from app.core.environment import Lock
from app.core.model import Limits, ModelVersion, Replica
from app.dispatch.connection import ReplicaConnection, connect
from app.errors import BuildFailed, ReplicaUnavailable, StartFailed, TargetUnavailable
from app.runtime.docker.engine import engine_answers
from app.runtime.docker.target import DockerTarget
from app.runtime.target import StoredImage, Target
from model_container.contract.frames import Request
from tests.integration.process_lab import HARMLESS, connected, descendants, predict, small_lock, until, write_model
from tests.records import with_facts

pytestmark = pytest.mark.docker

PYTHON = "{}.{}".format(*sys.version_info[:2])
BASE_IMAGE = "python:{version}-slim"
LOCK = small_lock(PYTHON)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def make_target(folder: Path, home: str, base_image: str = BASE_IMAGE) -> DockerTarget:
    return DockerTarget(
        home=home,
        run_folder=folder / "run",
        base_image=base_image,
        build_timeout_seconds=300,
    )


@dataclass
class Lab:
    """Starts replicas of `target`; at the end nothing of them is left."""

    target: DockerTarget
    folder: Path
    home: str
    models: list[ModelVersion] = field(default_factory=list)
    started: list[Replica] = field(default_factory=list)

    async def build(self, code: str = HARMLESS, name: str = "intruder") -> ModelVersion:
        model = write_model(self.folder / name, LOCK, textwrap.dedent(code), name)
        model = with_facts(model, model_id=f"{self.home}-{name}")
        self.models.append(model)
        await self.target.build_model(model, self.folder / name, print)
        return model

    async def start(self, code: str = HARMLESS, name: str = "intruder", limits: Limits | None = None) -> Replica:
        """Started, not yet loaded. Its folder is `self.folder / name`."""
        model = await self.build(code, name)
        return await self.start_again(model, limits)

    async def start_again(self, model: ModelVersion, limits: Limits | None = None) -> Replica:
        limits = limits or Limits(memory_mb=256, pids=64)
        replica = await self.target.start(model, self.folder / model.name, limits)
        self.started.append(replica)
        return replica

    async def gone(self, replica: Replica) -> str:
        async def detail() -> str:
            state = await self.target.state(replica)
            return "" if state.running else state.detail

        return str(await until(detail, f"{replica.id} has ended"))

    async def clean_up(self) -> None:
        for replica in self.started:
            await self.target.stop(replica, 0)
        for model in self.models:
            await self.target.remove(model, environment_in_use=True)


@pytest.fixture(scope="module")
async def environment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[None]:
    """One built environment image for all tests that only run replicas in it."""
    folder = tmp_path_factory.mktemp("environment")
    target = make_target(folder, "test-environment")
    await target.build_environment(LOCK, print)
    yield
    await target.remove(write_model(folder / "m", LOCK), environment_in_use=False)


@pytest.fixture
async def lab(tmp_path: Path, environment: None) -> AsyncIterator[Lab]:
    home = f"test{uuid4().hex[:8]}"
    lab = Lab(make_target(tmp_path, home), tmp_path / "models", home)
    yield lab
    await lab.clean_up()


async def welcomed(replica: Replica) -> ReplicaConnection:
    """Wait for the handshake as the gateway does; the engine's proxy accepts and hangs up before the runtime listens."""

    async def link() -> ReplicaConnection | None:
        try:
            return await connect(replica, 30)
        except ReplicaUnavailable:
            return None

    found = await until(link, "the replica says welcome")
    assert isinstance(found, ReplicaConnection)
    return found


def replace_lock(model: ModelVersion, lock: Lock) -> ModelVersion:
    return with_facts(model, lock=lock)


async def test_the_docker_target_fulfils_the_contract_and_offers_local_pythons_first(tmp_path: Path) -> None:
    target: Target = make_target(tmp_path, "test")
    assert engine_answers()
    pythons = await target.pythons()
    assert pythons[0] == PYTHON
    assert {"3.9", "3.12"} <= set(pythons)


async def test_a_base_image_without_a_python_in_its_name_is_queried(tmp_path: Path) -> None:
    target = make_target(tmp_path, "test", base_image=BASE_IMAGE.format(version=PYTHON))
    assert await target.pythons() == (PYTHON,)


async def test_without_an_engine_every_call_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, replica = write_model(tmp_path / "m", LOCK), Replica("m", "docker", "id", "t", "")  # type: ignore[arg-type]
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "dead.sock"))
    listening.close()  # its file stays, and refuses
    for url in (f"unix://{tmp_path}/none.sock", f"unix://{tmp_path}/dead.sock", "tcp://127.0.0.1:1", "ssh://me@host"):
        monkeypatch.setenv("DOCKER_HOST", url)
        target = make_target(tmp_path, "test")
        assert not engine_answers()
        for question in (
            target.pythons(),
            target.build_environment(LOCK, print),
            target.build_model(model, tmp_path / "m", print),
            target.start(model, tmp_path / "m", Limits()),
            target.state(replica),
            target.stop(replica, 0),
            target.remove(model, False),
            target.replicas(),
            anext(target.logs(replica, tmp_path / "m", 1, True)),
        ):
            with pytest.raises(TargetUnavailable, match="No Docker engine answers"):
                await question


async def test_a_model_is_built_although_its_environment_was_removed_meanwhile(tmp_path: Path) -> None:
    """Another PRISM on the same engine removes it with the last model of its own."""
    lock = Lock(python=PYTHON, text=f"psutil=={psutil.__version__}\n")
    target = make_target(tmp_path, "test")
    model = with_facts(replace_lock(write_model(tmp_path / "m", LOCK), lock), model_id="test-removed-meanwhile")
    lines: list[str] = []
    try:
        await target.build_environment(lock, print)
        await target.remove(model, environment_in_use=False)
        assert await target.build_model(model, tmp_path / "m", lines.append)
        assert len([line for line in lines if line.startswith(f"Environment {lock.hash} built")]) == 1
    finally:
        await target.remove(model, environment_in_use=False)


async def test_an_environment_requested_concurrently_is_built_once(tmp_path: Path, engine: docker.DockerClient) -> None:
    lock = Lock(python=PYTHON, text=f"msgspec=={msgspec.__version__}\n")
    target = make_target(tmp_path, "test")
    model = replace_lock(write_model(tmp_path / "m", LOCK), lock)
    lines: list[str] = []
    try:
        await asyncio.gather(*(target.build_environment(lock, lines.append) for _ in range(4)))
        assert len([line for line in lines if line.startswith("Step 1/")]) == 1
        assert any(f"msgspec=={msgspec.__version__}" in line for line in lines)
        await target.remove(model, environment_in_use=True)
        assert engine.images.list(f"prism_env_{lock.hash}")
    finally:
        await target.remove(model, environment_in_use=False)
    assert not engine.images.list(f"prism_env_{lock.hash}")
    await target.remove(model, environment_in_use=False)


async def test_a_package_that_does_not_exist_fails_the_build_with_its_name(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    lock = Lock(python=PYTHON, text="msgspec==0.0.0.1\n")
    with pytest.raises(BuildFailed, match=r"msgspec==0\.0\.0\.1") as failure:
        await make_target(tmp_path, "test").build_environment(lock, print)
    assert failure.value.values["log_lines"]


async def test_an_unavailable_base_image_is_named(tmp_path: Path) -> None:
    target = make_target(tmp_path, "test", base_image="127.0.0.1:1/no-such-base:{version}")
    with pytest.raises(BuildFailed, match=r"127\.0\.0\.1:1/no-such-base:3\.12.*PRISM_BASE_IMAGE"):
        await target.build_environment(Lock(python="3.12", text="msgspec==1\n"), print)


class PrivateIndex(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel, for who knows the password."""

    wheel = "prism_secret_wheel-1.0-py3-none-any.whl"

    def do_GET(self) -> None:
        wanted = base64.b64encode(b"reader:open-sesame").decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self.answer(401, b"", "text/plain")
        elif self.path.endswith(self.wheel):
            self.answer(200, wheel(), "application/octet-stream")
        elif self.path == "/simple/prism-secret-wheel/":
            self.answer(200, f'<a href="/{self.wheel}">{self.wheel}</a>'.encode(), "text/html")
        else:
            self.answer(404, b"", "text/plain")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="wheels"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def wheel() -> bytes:
    content = io.BytesIO()
    info = "prism_secret_wheel-1.0.dist-info"
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("prism_secret_wheel.py", "")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: prism-secret-wheel\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return content.getvalue()


@pytest.fixture
def private_index() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), PrivateIndex) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


async def test_credentials_of_a_private_index_reach_the_build_and_nothing_that_stays(
    tmp_path: Path, engine: docker.DockerClient, private_index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://reader:open-sesame@127.0.0.1:{private_index}/simple")
    lock = Lock(python=PYTHON, text="prism-secret-wheel==1.0\n")
    target = make_target(tmp_path, "test")
    lines: list[str] = []
    try:
        await target.build_environment(lock, lines.append)
        image = f"prism_env_{lock.hash}"
        assert "open-sesame" not in json.dumps(engine.images.get(image).history()) + json.dumps(
            engine.images.get(image).attrs
        )
        search = "grep -rl open-sesame / --exclude-dir=proc --exclude-dir=sys; ls -d /prism; true"
        found = engine.containers.run(image, ["sh", "-c", search], remove=True, network_mode="none")
        assert found == b""
        assert "open-sesame" not in "\n".join(lines)
        assert any("prism-secret-wheel==1.0" in line for line in lines)
    finally:
        await target.remove(replace_lock(write_model(tmp_path / "m", LOCK), lock), environment_in_use=False)


async def test_a_replica_answers_over_socket_and_port_and_after_stop_nothing_of_it_is_left(
    lab: Lab, tmp_path: Path, engine: docker.DockerClient
) -> None:
    replica = await lab.start()
    assert b"predictions" in await connected(replica)
    over_port = msgspec.structs.replace(replica, address=msgspec.structs.replace(replica.address, socket=""))
    for one in (replica, over_port):
        link = await connect(one, 10)
        assert link.welcome()["adapter"] == "pickle"
        assert (await link.predict(Request(b'{"features": [[1, 2]]}'))).status == 200
        await link.wait_closed()
    state = await lab.target.state(replica)
    assert state.running
    assert not state.frozen
    assert state.rss_bytes > 5 << 20
    assert await lab.target.replicas() == (replica,)
    await lab.target.stop(replica, 10)
    assert engine.containers.list(all=True, ignore_removed=True, filters={"label": f"prism.home={lab.home}"}) == []
    assert engine.networks.list(names=[f"prism_{lab.home}"]) == []
    assert await lab.target.replicas() == ()
    assert "gone" in (await lab.target.state(replica)).detail
    await lab.target.stop(replica, 10)
    await lab.clean_up()
    assert engine.images.list(replica.image) == []


async def test_only_local_clients_with_the_token_are_answered(
    lab: Lab, tmp_path: Path, engine: docker.DockerClient
) -> None:
    replica = await lab.start()
    await connected(replica)
    assert stat.S_IMODE(Path(replica.address.socket).parent.stat().st_mode) == 0o700
    published = engine.api.inspect_container(replica.id)["NetworkSettings"]["Ports"]["8080/tcp"]
    assert published == [{"HostIp": "127.0.0.1", "HostPort": str(replica.address.port)}]
    with pytest.raises(AssertionError, match="closed the connection"):
        await predict(msgspec.structs.replace(replica, token="guess"))


async def test_a_container_has_no_privileges(lab: Lab, engine: docker.DockerClient) -> None:
    replica = await lab.start(limits=Limits(memory_mb=200, cpus=0.5, pids=50))
    inspection = engine.api.inspect_container(replica.id)
    host = inspection["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host["Privileged"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        200 << 20,
        200 << 20,
        5 * 10**8,
        50,
    )
    assert host["RestartPolicy"]["Name"] == "no"
    assert inspection["Config"]["User"] not in ("", "0", "0:0", "root")
    assert [mount["Destination"] for mount in inspection["Mounts"] if mount["Type"] != "tmpfs"] == []
    assert [(one["Name"], one["Hard"]) for one in host["Ulimits"]] == [("fsize", 200 << 20)]
    (network,) = engine.networks.list(names=[f"prism_{lab.home}"])
    assert network.attrs["Options"]["com.docker.network.bridge.enable_icc"] == "false"


ESCAPES = """
import json, os, socket, subprocess

def tcp(host, port):
    socket.create_connection((host, port), 2).close()

def udp(host):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", (host, 53))

def write(path):
    open(path, "w").close()

def run_own_program():
    with open("/tmp/program", "w") as file:
        file.write("#!/bin/sh\\n")
    os.chmod("/tmp/program", 0o755)
    subprocess.run(["/tmp/program"], check=True)

def through_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)

def attempt(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return ""
    return "succeeded"

def everything(asked):
    gateway, listener, neighbour = asked.split(" ")
    tries = {
        "tcp to the host": (tcp, gateway, int(listener)),
        "tcp to another model": (tcp, neighbour, 8080),
        "udp": (udp, gateway),
        "dns": (socket.getaddrinfo, "example.com", 80),
        "raw socket": (socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
        "packet socket": (socket.socket, 17, socket.SOCK_RAW),
        "a Unix socket": (through_socket, "/run/prism/model.sock"),
        "write to /": (write, "/new"),
        "write to /opt/prism": (write, "/opt/prism/model_container/runtime.py"),
        "write to its artifact": (write, "/opt/prism/artifact/model.pkl"),
        "write to the environment": (write, "/opt/environment/new"),
        "run what it wrote": (run_own_program,),
        "become root": (os.setuid, 0),
        "chroot": (os.chroot, "/tmp"),
        "mount": (lambda: subprocess.run(["mount", "-t", "tmpfs", "none", "/tmp"], check=True, capture_output=True),),
        "new namespace": (lambda: subprocess.run(["unshare", "-U", "true"], check=True, capture_output=True),),
        "kernel settings": (write, "/proc/sys/kernel/core_pattern"),
        "the engine's socket": (through_socket, "/var/run/docker.sock"),
    }
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    environs = ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environs += open(f"/proc/{pid}/environ").read()
        except OSError:
            pass
    return {
        "succeeded": [name for name, one in tries.items() if attempt(*one)],
        "uid": os.getuid(),
        "capabilities": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privileges": int(status["NoNewPrivs"]),
        "environs": environs,
        "processes": len([pid for pid in os.listdir("/proc") if pid.isdigit()]),
        "in /run/prism": os.listdir("/run/prism"),
        "devices": [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "mem", "kmsg"))],
    }

class Model:
    def predict(self, rows):
        return [json.dumps(everything(row[0])) for row in rows]
"""


def container_address(engine: docker.DockerClient, lab: Lab, replica: Replica) -> dict[str, Any]:
    networks = engine.api.inspect_container(replica.id)["NetworkSettings"]["Networks"]
    assert list(networks) == [f"prism_{lab.home}"]
    address: dict[str, Any] = networks[f"prism_{lab.home}"]
    return address


async def test_every_escape_from_inside_a_model_fails(
    lab: Lab, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISM_API_KEYS", "the-gateways-key")
    neighbour = await lab.start(name="neighbour")
    replica = await lab.start(ESCAPES)
    await connected(neighbour)
    mine, other = (container_address(engine, lab, one) for one in (replica, neighbour))
    with socket.create_server(("0.0.0.0", 0)) as listener:
        asked = f"{mine['Gateway']} {listener.getsockname()[1]} {other['IPAddress']}"
        link = await welcomed(replica)
        answer = await link.predict(Request(json.dumps({"input": [asked]}).encode()))
        await link.wait_closed()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert answer.status == 200, answer.body
    found = json.loads(json.loads(answer.body)["predictions"][0])
    assert found["succeeded"] == []
    assert found["uid"] != 0
    assert found["capabilities"] == [0, 0, 0, 0, 0]
    assert found["no_new_privileges"] == 1
    assert "the-gateways-key" not in found["environs"]
    assert neighbour.token not in found["environs"]
    assert found["processes"] < 6
    assert found["in /run/prism"] == ["model.sock"]
    assert found["devices"] == []
    assert (await lab.target.state(replica)).running


async def test_the_network_itself_keeps_models_from_each_other(lab: Lab, engine: docker.DockerClient) -> None:
    """A program that the engine starts in the container has no filter of ours."""
    neighbour, replica = await lab.start(name="neighbour"), await lab.start()
    await asyncio.gather(connected(neighbour), connected(replica))
    connect_to = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); print('through')"
    inside = engine.containers.get(replica.id)
    address = container_address(engine, lab, neighbour)["IPAddress"]
    itself = await asyncio.to_thread(inside.exec_run, ["python", "-c", connect_to, "127.0.0.1", "8080"])
    assert itself.output == b"through\n"
    across = await asyncio.to_thread(inside.exec_run, ["python", "-c", connect_to, address, "8080"])
    assert across.exit_code == 1
    assert b"through" not in across.output


async def test_a_replica_over_its_memory_limit_ends_with_that_reason(lab: Lab) -> None:
    greedy = """
    class Model:
        def predict(self, rows):
            return [len(bytearray(b"x") * (400 << 20)) for _ in rows]
    """
    replica = await lab.start(greedy, limits=Limits(memory_mb=96))
    with pytest.raises((AssertionError, ConnectionError)):
        await connected(replica)
    assert await lab.gone(replica) == "killed by the out-of-memory killer (limit 96 MiB)"


async def test_a_replica_that_exits_leaves_its_exit_code_and_its_output(lab: Lab, engine: docker.DockerClient) -> None:
    replica = await lab.start("import os\nprint('farewell', flush=True)\nos._exit(7)")
    assert await lab.gone(replica) == "exited with code 7"
    assert await lab.target.replicas() == ()
    assert await said(lab, replica, 10) == ["farewell"]
    await lab.target.stop(replica, 5)
    assert await said(lab, replica, 10) == ["farewell"]
    assert engine.containers.list(all=True, ignore_removed=True, filters={"label": f"prism.home={lab.home}"}) == []


async def said(lab: Lab, replica: Replica, tail: int, after: str = "") -> list[str]:
    """What its log gives, followed to its end."""
    lines = lab.target.logs(replica, lab.folder / "intruder", tail, True, after)
    return [line.text async for line in lines if line.kind == "line"]


async def logged(lab: Lab, replica: Replica, text: str) -> None:
    """Until the engine has written it down, which is some time after it was said."""

    async def is_there() -> bool:
        lines = lab.target.logs(replica, lab.folder / "intruder", 1, False)
        return [line.text async for line in lines if line.kind == "line"] == [text]

    await until(is_there, f"{text!r} at the end of its log")


async def test_a_replica_killed_from_outside_reports_the_signal(lab: Lab) -> None:
    replica = await lab.start()
    await connected(replica)
    descendants(replica.pid)[-1].kill()
    assert await lab.gone(replica) == "killed by signal 9"


@pytest.mark.parametrize("grace_seconds", [0, 10])
async def test_a_frozen_replica_is_seen_as_frozen_and_can_be_stopped(lab: Lab, grace_seconds: float) -> None:
    replica = await lab.start()
    await connected(replica)
    runtime = descendants(replica.pid)[-1]
    os.kill(runtime.pid, signal.SIGSTOP)

    async def frozen() -> bool:
        return (await lab.target.state(replica)).frozen

    await until(frozen, "it is reported as frozen")
    await lab.target.stop(replica, grace_seconds)
    assert not psutil.pid_exists(runtime.pid)


async def test_a_paused_replica_is_seen_as_frozen_and_can_be_stopped(lab: Lab, engine: docker.DockerClient) -> None:
    replica = await lab.start()
    await connected(replica)
    engine.api.pause(replica.id)
    state = await lab.target.state(replica)
    assert state.running
    assert state.frozen
    assert "paused" in state.detail
    assert await lab.target.replicas() == (replica,)
    await lab.target.stop(replica, 5)
    assert not (await lab.target.state(replica)).running


async def test_a_later_gateway_finds_it_and_another_prism_does_not(lab: Lab, tmp_path: Path) -> None:
    replica = await lab.start()
    another = make_target(tmp_path, "another-home")
    assert await another.replicas() == ()
    await another.stop(replica, 0)
    later = make_target(tmp_path, lab.home)
    assert await later.replicas() == (replica,)
    assert b"predictions" in await connected(replica)
    await later.stop(replica, 5)
    assert await later.replicas() == ()


async def test_containers_without_prism_labels_are_never_touched(lab: Lab, engine: docker.DockerClient) -> None:
    model = await lab.build()
    image = engine.images.get(f"prism_env_{LOCK.hash}")
    foreign_name = f"prism_model_{lab.home}-foreign"
    image.tag(foreign_name)
    foreign = engine.containers.run(
        image, ["sleep", "600"], name=f"prism_{model.model_id}_foreign", detach=True, network_mode="none"
    )
    try:
        await lab.target.remove(with_facts(model, model_id=f"{lab.home}-foreign"), environment_in_use=True)
        assert await lab.target.replicas() == ()
        borrowed = Replica(model.model_id, lab.target.name, str(foreign.id), "", "")
        await lab.target.stop(borrowed, 0)
        await lab.target.remove(model, environment_in_use=True)
        foreign.reload()
        assert foreign.status == "running"
        assert engine.images.list(foreign_name)
    finally:
        foreign.remove(force=True)
        engine.images.remove(foreign_name)


async def test_its_log_can_be_followed_until_it_ends_and_left_at_any_time(lab: Lab) -> None:
    replica = await lab.start("print('one\\ntwo', flush=True)\n" + HARMLESS)
    await connected(replica)
    folder = lab.folder / "intruder"
    await logged(lab, replica, "two")
    assert [line.text async for line in lab.target.logs(replica, folder, 1, False)] == ["two"]
    left = lab.target.logs(replica, folder, 10, True)
    assert [(await anext(left)).text, (await anext(left)).text] == ["one", "two"]
    await left.aclose()  # type: ignore[attr-defined]
    waiting = asyncio.ensure_future(anext(lab.target.logs(replica, folder, 0, True)))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    following = lab.target.logs(replica, folder, 10, True)
    assert [(await anext(following)).text, (await anext(following)).text] == ["one", "two"]
    await lab.target.stop(replica, 5)
    assert [line.text async for line in following if line.kind == "line"] == []

    async def no_reader() -> bool:
        return not [one for one in threading.enumerate() if one.name == "docker-stream"]

    await until(no_reader, "no thread still reads a log")


TALKER = """
import threading, time
def talk():
    for number in range(200):
        print(f"{run} {number}", flush=True)
        time.sleep(0.002)
    print(f"{run} " + "x" * 40_000, flush=True)
    print(f"{run} done", flush=True)
threading.Thread(target=talk, daemon=True).start()
"""


async def test_a_log_can_be_resumed_after_any_line_by_any_gateway(lab: Lab) -> None:
    folder = lab.folder / "intruder"
    first = await lab.start(TALKER.replace("{run}", "1") + HARMLESS)
    live = lab.target.logs(first, folder, 1000, True)  # also what it said before it was listened to
    received: list[str] = []
    while not received or received[-1] != "1 done":
        line = await anext(live)
        received += [line.text] if line.kind == "line" else []
        if len(received) % 7 == 6:  # cut off, and resumed by another gateway
            await live.aclose()  # type: ignore[attr-defined]
            live = make_target(folder, lab.home).logs(first, folder, 0, True, line.id)
    await live.aclose()  # type: ignore[attr-defined]
    spoken = [text for text in received if text.startswith("1 ")]
    assert spoken == [*(f"1 {number}" for number in range(int(spoken[0][2:]), 200)), "1 " + "x" * 40_000, "1 done"]


async def test_resuming_in_a_replaced_containers_log_continues_with_the_next_ones(
    lab: Lab,
) -> None:
    folder = lab.folder / "intruder"
    model = await lab.build("print('one\\ntwo\\nthree', flush=True)\n" + HARMLESS)
    first = await lab.start_again(model)
    await connected(first)
    await logged(lab, first, "three")
    one = await anext(lab.target.logs(first, folder, 3, False))
    assert one.text == "one"
    await lab.target.stop(first, 5)
    kept = [line async for line in lab.target.logs(first, folder, 10, True, one.id)]
    assert [line.text for line in kept] == ["two", "three"]
    second = await lab.start_again(model)
    await connected(second)
    await logged(lab, second, "three")

    async def after(place: str) -> list[tuple[str, str]]:
        lines = lab.target.logs(second, folder, 10, False, place)
        return [(line.kind, line.text) async for line in lines]

    own = [("line", "one"), ("line", "two"), ("line", "three")]
    assert await after(one.id) == [*own[1:], *own]
    assert await after(kept[-1].id) == own
    assert (await after(f"c{'0' * 12}-2026-01-01T00:00:00.000000000Z-0"))[0][0] == "gap"


async def test_a_log_position_cannot_name_a_foreign_container(lab: Lab, engine: docker.DockerClient) -> None:
    replica = await lab.start()
    await connected(replica)
    image = engine.images.get(f"prism_env_{LOCK.hash}")
    foreign = engine.containers.run(image, ["echo", "secret"], detach=True, network_mode="none")
    try:
        foreign.wait()
        place = f"c{str(foreign.id)[:12]}--0"
        found = [line async for line in lab.target.logs(replica, lab.folder / "intruder", 10, False, place)]
        assert found[0].kind == "gap"
        assert "secret" not in [line.text for line in found]
    finally:
        foreign.remove(force=True)


async def test_a_cancelled_start_leaves_no_container(lab: Lab, engine: docker.DockerClient) -> None:
    model = await lab.build()
    start = asyncio.create_task(lab.target.start(model, lab.folder / model.name, Limits(memory_mb=256)))

    async def begun() -> bool:
        return bool(engine.containers.list(all=True, ignore_removed=True, filters={"label": f"prism.home={lab.home}"}))

    await until(begun, "its container exists")
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not await begun()


async def test_a_cancelled_or_timed_out_build_ends(tmp_path: Path, engine: docker.DockerClient) -> None:
    lock = Lock(python=PYTHON, text="".join(f"{name}\n" for name in ("numpy==2.0.0", "msgspec==0.19.0")))
    hasty = DockerTarget(home="test", run_folder=tmp_path, base_image=BASE_IMAGE, build_timeout_seconds=1)
    with pytest.raises(BuildFailed, match="within 1 s"):
        await hasty.build_environment(lock, print)
    lines: list[str] = []
    build = asyncio.create_task(make_target(tmp_path, "test").build_environment(lock, lines.append))

    async def installing() -> bool:
        return any("RUN" in line for line in lines)

    await until(installing, "it runs the installer")
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build

    async def nothing_left() -> bool:
        filters: dict[str, Any] = {"label": f"prism.environment={lock.hash}"}
        return not engine.images.list(all=True, filters=filters) and not engine.containers.list(
            filters=filters, ignore_removed=True
        )

    await until(nothing_left, "the build has ended")
    assert not engine.images.list(f"prism_env_{lock.hash}")


HOSTILE_FOLDER = """
import os, socket

def refused(function):
    try:
        function()
    except OSError as error:
        return type(error).__name__ + ": " + (error.strerror or "")
    return ""

def fill():
    with open("/run/prism/full", "wb") as file:
        for _ in range(1024):
            file.write(bytes(1024))
            file.flush()

def crowd():
    for number in range(1000):
        open(f"/run/prism/{number}", "w").close()

def large_file():
    with open("/tmp/large", "wb") as file:
        file.truncate((256 << 20) + 1)

class Model:
    def predict(self, rows):
        import json
        found = {one.__name__: refused(one) for one in (fill, crowd, large_file)}
        return [json.dumps(found) for _ in rows]
"""


async def test_a_container_cannot_fill_this_machine_through_the_folder_of_its_socket(lab: Lab) -> None:
    link = await welcomed(await lab.start(HOSTILE_FOLDER))
    answer = await link.predict(Request(b'{"input": ["x"]}'))
    await link.wait_closed()
    assert answer.status == 200, answer.body
    found = json.loads(json.loads(answer.body)["predictions"][0])
    assert "No space left" in found["fill"], found
    assert "No space left" in found["crowd"], found
    assert "File too large" in found["large_file"], found


REPLACED = """
import os
os.unlink("/run/prism/model.sock")
os.symlink(TARGET, "/run/prism/model.sock")
""" + HARMLESS


async def test_the_gateway_does_not_follow_a_link_in_place_of_a_containers_socket(lab: Lab, tmp_path: Path) -> None:
    """The link names a socket of this machine; were it followed, who listens there would be handed the token."""
    with socket.socket(socket.AF_UNIX) as victim:
        victim.bind(str(tmp_path / "victim"))
        victim.listen()
        victim.setblocking(False)
        replica = await lab.start(REPLACED.replace("TARGET", repr(str(tmp_path / "victim"))))
        path = Path(replica.address.socket)

        async def replaced() -> bool:
            return path.is_symlink()

        await until(replaced, "the socket has been replaced")
        with pytest.raises(ReplicaUnavailable, match="not the socket"):
            await connect(replica, 5)
        with pytest.raises(BlockingIOError):
            victim.accept()


async def test_a_container_is_reached_by_its_port_if_its_root_cannot_be_entered(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runtime.docker.sockets.runtime_user", lambda: (12345, 12345))
    replica = await lab.start()
    assert replica.address.socket == ""
    link = await welcomed(replica)
    assert (await link.predict(Request(b'{"features": [[1, 2]]}'))).status == 200
    await link.wait_closed()


async def test_a_model_without_its_image_is_not_started(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="no image"):
        await lab.target.start(write_model(tmp_path / "m", LOCK), tmp_path / "m", Limits())


async def test_two_replicas_of_one_model_live_side_by_side_and_the_dead_go_with_the_next_start(
    lab: Lab, engine: docker.DockerClient
) -> None:
    model = await lab.build()
    first, second = await lab.start_again(model), await lab.start_again(model)
    await connected(first)
    await connected(second)
    engine.api.kill(first.id)
    await lab.gone(first)
    third = await lab.start_again(model)
    assert {one.id for one in await lab.target.replicas()} == {second.id, third.id}
    assert len(engine.containers.list(all=True, ignore_removed=True, filters={"label": f"prism.home={lab.home}"})) == 2
    assert b"predictions" in await connected(third)


async def test_its_image_also_runs_by_itself_from_the_dockerfile_beside_the_artifact(
    lab: Lab, engine: docker.DockerClient
) -> None:
    model = await lab.build()
    dockerfile = (lab.folder / "intruder" / "Dockerfile").read_text()
    assert f"FROM prism_env_{LOCK.hash}\n" in dockerfile
    container = engine.containers.create(
        f"prism_model_{model.model_id}",
        "serve",  # as SageMaker starts it
        environment={"AIP_PREDICT_ROUTE": "/vertex/predict"},
        ports={"8080/tcp": ("127.0.0.1", None)},  # type: ignore[dict-item]
    )
    try:
        container.start()
        port = engine.api.port(str(container.id), 8080)[0]["HostPort"]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", b'{"features": [[1, 2]]}')

        async def answer() -> bytes:
            return await asyncio.to_thread(ask, request)

        assert b"predictions" in await until(answer, "the image answers by itself")
        await asyncio.to_thread(answers_every_protocol, int(port))
    finally:
        container.remove(force=True)


def answers_every_protocol(port: int) -> None:
    """Raises AssertionError, or what a client raises."""
    rows = np.array([[1.0, 2.0]])
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_ready()
        given = triton.InferInput("input", [1, 2], "FP64").set_data_from_numpy(rows)
        found = client.infer("any", [given])
        name = found.get_response()["outputs"][0]["name"]
        assert found.as_numpy(name).shape == (1,)
    with warnings.catch_warnings(action="ignore"):  # of MLflow about itself
        from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    scoring = ScoringServerClient("127.0.0.1", port)
    scoring.ping()
    assert len(scoring.invoke(rows).get_predictions()) == 1
    for path in ("/v1/models/any:predict", "/vertex/predict"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", b'{"instances": [[1, 2]]}')
        assert b"predictions" in ask(request), path


def ask(request: urllib.request.Request) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return bytes(response.read())
    except OSError:
        return b""


async def test_its_images_are_counted_as_its_own_and_one_in_use_is_not_removed(lab: Lab, tmp_path: Path) -> None:
    replica = await lab.start()
    await welcomed(replica)
    model_id = lab.models[0].model_id

    async def own(target: DockerTarget) -> list[StoredImage]:
        return [image for image in await target.images() if image.model_id == model_id]

    (image,) = await own(lab.target)
    assert (image.name, image.is_own, image.lock_hash) == (f"prism_model_{model_id}", True, LOCK.hash)
    assert 0 < image.size_bytes < 50_000_000, "without its environment"
    (seen,) = await own(make_target(tmp_path, "another"))
    assert not seen.is_own
    assert not await lab.target.remove_image(image.id)
    await lab.target.stop(replica, 0)
    assert await lab.target.remove_image(image.id)
    assert await own(lab.target) == []
    assert not await lab.target.remove_image(image.id)
