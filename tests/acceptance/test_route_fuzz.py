"""Every route that predicts, asked whatever its description allows and much that it does not: never a 5xx."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.acceptance.raw import anonymous_bytes
from tests.acceptance.routes_lab import PREDICT
from tests.acceptance.served import passing_graph, serving
from tests.acceptance.server import Server

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import schemathesis
    from schemathesis import GenerationMode

EXAMPLES = 40
"""For each route, model and kind of request; all of them take less than a minute."""

GROWTH_BYTES_MAX = 4 << 20

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path, iris_file: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET="process") as server:
        server.deploy(iris_file, model_name="iris")
        server.deploy(passing_graph(tmp_path_factory.mktemp("graphs") / "passing.onnx"))
        yield server


def operations(server: Server) -> dict[str, Any]:
    """The routes that predict, by path, as the server describes them."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found = [one.ok() for one in schema.include(method="POST").get_all_operations()]
    return {one.path: one for one in found if "predict" in one.path or one.path.endswith(("/infer", "invocations"))}


def test_every_route_that_predicts_is_described(server: Server) -> None:
    assert operations(server).keys() == PREDICT


@pytest.mark.filterwarnings("ignore")  # of the tool itself
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as described", "otherwise"])
def test_no_request_makes_a_route_fail(server: Server, mode: GenerationMode) -> None:
    before = anonymous_bytes(server)
    statuses: set[int] = set()

    with requests.Session() as session:

        def attempt(case: Any) -> None:
            answer = case.call(session=session)
            statuses.add(answer.status_code)
            assert answer.status_code < 500, (case.path, answer.status_code, answer.content[:500])
            assert answer.content, case.path

        for path, operation in operations(server).items():
            for model in ("iris", "passing"):
                given_names = {"ref": model, "name": model, "model_name": model, "version": "1.0.0"}
                names = {name: value for name, value in given_names.items() if f"{{{name}}}" in path}
                cases: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=mode, path_parameters=names)
                FUZZ(given(case=cases)(attempt))()
    assert statuses & {400, 415, 422}, "nothing was refused, so little was tried"
    growth = {pid: held - before[pid] for pid, held in anonymous_bytes(server).items()}
    assert max(growth.values()) < GROWTH_BYTES_MAX, growth
    assert server.http.post("/predict/iris", json={"features": [[5.1, 3.5, 1.4, 0.2]]}).json()["predictions"] == [
        "setosa"
    ]
