"""What was built for a model and is deleted under it is built again, by whoever starts its next replica."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil

from tests.acceptance.conftest import StartServer
from tests.acceptance.replica_models import ROWS, WHO, archive
from tests.acceptance.server import Server, wait_for


def lose_what_was_built(server: Server, target: str, environments: Path, model_id: str) -> None:
    if target == "process":
        for place in environments.iterdir():
            if place.is_dir() and place.name != "resolved":
                shutil.rmtree(place)
    else:
        subprocess.run(["docker", "rmi", "--force", f"prism_model_{model_id}"], check=True, capture_output=True)


def test_an_environment_deleted_under_a_model_is_built_again_from_its_lock(
    start_server: StartServer, target: str, tmp_path: Path
) -> None:
    environments = tmp_path / "environments"
    server = start_server(
        PRISM_TARGET=target, PRISM_ENVIRONMENT_ROOT=environments, PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=0.5
    )
    model = server.deploy(archive(tmp_path, model_py=WHO), model_name="who")
    lose_what_was_built(server, target, environments, model["model_id"])
    before = model["replica"]
    psutil.Process(before["pid"]).kill()

    def is_back() -> bool:
        now = server.model("who")
        return now["status"] == "live" and now["replica"]["id"] != before["id"]

    wait_for(is_back, 120, "another replica serves")
    assert server.predict("who", {"features": ROWS}).status_code == 200
    lose_what_was_built(server, target, environments, model["model_id"])
    assert server.http.post("/models/who/restart").status_code == 200
    assert server.predict("who", {"features": ROWS}).status_code == 200
