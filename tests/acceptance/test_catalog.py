"""A server starts and predicts while its catalog is away; the catalog is made from what the server has."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.acceptance.conftest import StartServer
from tests.acceptance.raw import anonymous_bytes
from tests.acceptance.server import CHECKOUT, Server, wait_for

SAMPLE = CHECKOUT / "model_store" / "samples" / "iris" / "iris.onnx"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
GATEWAY_BYTES_MAX = 90 << 20


def catalog(server: Server) -> Path:
    return server.home / "app" / "registry" / "catalog.db"


def versions(server: Server) -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(f"file:{catalog(server)}?mode=ro", uri=True)) as file:
        try:
            return set(file.execute("SELECT model_id, name, version FROM versions"))
        except sqlite3.OperationalError:  # its tables are being made
            return set()


def test_a_server_predicts_while_its_database_is_away(start_server: StartServer, closed_port: int) -> None:
    url = f"postgresql+asyncpg://prism:s3cret@127.0.0.1:{closed_port}/prism"
    server = start_server(PRISM_TARGET="process", DATABASE_URL=url)

    server.deploy(SAMPLE, model_name="iris")

    assert server.predict("iris", ROW).status_code == 200
    assert server.http.get("/health").json()["status"] == "ok"
    wait_for(lambda: "going on without the catalog" in server.log(), 60, "the warning")
    assert f"127.0.0.1:{closed_port}/prism" in server.log()
    assert "s3cret" not in server.log()


def test_a_deleted_catalog_is_made_from_the_models_own_records(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process")
    model = server.deploy(SAMPLE, model_name="iris")
    assert not catalog(server).exists(), "nothing has used it"
    server.stop()

    catalog(server).touch()  # one that is there is opened at the start
    server.start()

    expected = {(model["model_id"], "iris", "1.0.0")}
    wait_for(lambda: versions(server) == expected, 60, "the versions in the catalog")
    assert server.process is not None
    assert anonymous_bytes(server)[server.process.pid] < GATEWAY_BYTES_MAX
