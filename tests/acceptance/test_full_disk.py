"""A server whose disk is full to the last byte, really: what it refuses, what it does all the same, what is left."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.replica_models import ROWS, WHO, archive
from tests.acceptance.server import Server, problem, wait_for
from tests.conftest import mount_command

ADMIN = "of-the-admin"
LOUD = """
import sys

class Model:
    def predict(self, rows):
        print("x" * 20000, flush=True)
        print("y", file=sys.stderr)
        return [1.0 for row in rows]
"""
SIZE_MIB = 24

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and sets another process's limits")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    owner = f"uid={os.getuid()},gid={os.getgid()},mode=0700"
    subprocess.run(
        [*mount_command(), "mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,{owner}", "tmpfs", place], check=True
    )
    yield place
    subprocess.run([*mount_command(), "umount", "--lazy", place], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    size = 1 << 20
    with (disk / "filler").open("ab", buffering=0) as file:
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def folders(server: Server) -> list[str]:
    return sorted(path.name for path in (server.home / "model_store" / "uploads").iterdir())


def key(server: Server, name: str) -> tuple[str, dict[str, str]]:
    """Its id, and headers that send it."""
    made = server.http.post("/keys", json={"name": name}).json()
    return made["id"], {"X-API-Key": made["key"]}


def asked(server: Server, headers: dict[str, str]) -> int:
    return server.http.post("/models/who/predict", json={"features": ROWS}, headers=headers).status_code


@pytest.mark.tmpfs
def test_a_full_disk_is_told_revokes_for_good_and_leaves_nothing(
    small_disk: Path, environments: Path, tmp_path: Path
) -> None:
    server = Server(
        small_disk,
        environments,
        PRISM_TARGET="process",
        PRISM_ADMIN_KEYS=ADMIN,
        PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=0.5,
    )
    server.http.headers["X-API-Key"] = ADMIN
    model = archive(tmp_path, model_py=LOUD)
    try:
        server.start()
        server.deploy(model, model_name="who")
        revoked, its_headers = key(server, "revoked")
        _, other_headers = key(server, "other")
        before = folders(server)
        fill(small_disk)

        assert server.http.delete(f"/keys/{revoked}").status_code == 200
        assert [asked(server, other_headers) for _ in range(3)] == [200] * 3  # what it prints is lost
        for answer in (server.http.post("/keys", json={"name": "late"}), server.upload(model, model_name="late")):
            document = problem(answer)
            assert (document["status"], document["code"]) == (507, "disk_full")
            assert "prism rm" in document["hint"]
        assert folders(server) == before
        assert [one["name"] for one in server.http.get("/models").json()["models"]] == ["who"]
        assert server.http.post("/models/who/stop").json()["status"] == "stopped"
        fill(small_disk)  # with what the replica left
        assert problem(server.http.post("/models/who/start"))["code"] == "disk_full"
        assert server.model("who")["status"] == "unhealthy"
        (unsaved,) = server.http.get("/health/monitor").json()["unsaved"]
        assert unsaved["what"] == "the registry"
        assert not server.replica_processes()

        server.kill()
        server.stop()
        server.http.headers["X-API-Key"] = ADMIN
        server.start()  # the disk is as full as before
        assert (asked(server, its_headers), asked(server, other_headers)) == (401, 409)
        assert [one["name"] for one in server.http.get("/keys").json()["keys"]] == ["other"]

        (small_disk / "filler").unlink()
        wait_for(lambda: not server.http.get("/health/monitor").json()["unsaved"], 30, "all is on disk")
        assert server.http.post("/models/who/start").status_code == 200
        assert (asked(server, its_headers), asked(server, other_headers)) == (401, 200)
        server.stop()
        server.http.headers["X-API-Key"] = ADMIN
        fill(small_disk)
        server.start()
        wait_for(lambda: server.model("who")["status"] == "unhealthy", 30, "it found no room")
        (small_disk / "filler").unlink()
        wait_for(lambda: asked(server, other_headers) == 200, 60, "the model is back by itself")
        assert asked(server, its_headers) == 401
        assert "Traceback" not in server.log()
        assert not list((small_disk / "app" / "registry").glob("*.corrupt-*"))
    finally:
        if server.process is not None and server.process.poll() is not None:
            server.start()
        server.stop()


@needs_linux
def test_too_many_open_files_are_told_and_over_once_there_are_fewer(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process")
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    assert server.http.get("/keys").status_code == 200  # by a connection that stays open
    limit = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), limit[1]))
    try:
        refused = server.http.post("/keys", json={"name": "late"})
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, limit)
    document = problem(refused)
    assert (document["status"], document["code"]) == (503, "too_many_open_files")
    assert int(refused.headers["retry-after"]) > 0
    assert server.http.get("/keys").json() == {"keys": []}
    assert server.http.post("/keys", json={"name": "late"}).status_code == 201


@needs_linux
def test_a_server_raises_its_limit_of_open_files_and_a_replica_keeps_its_own(
    start_server: StartServer, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start_server(PRISM_TARGET="process")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.process is not None
    most = hard if 0 < hard < 1 << 20 else 1 << 20
    assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == most
    replica = server.deploy(archive(tmp_path, model_py=WHO), model_name="who")["replica"]
    children = psutil.Process(replica["pid"]).children(recursive=True)
    assert {child.rlimit(psutil.RLIMIT_NOFILE)[0] for child in children} <= {4096}
