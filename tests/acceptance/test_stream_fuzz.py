"""Any JSON, any bytes and any Accept header on the routes that stream: never a 5xx, and no stream is left open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.acceptance.served import passing_graph, serving
from tests.acceptance.server import Server, wait_for
from tests.acceptance.streaming_lab import open_streams

PATHS = [
    f"{base}{action}"
    for name in ("iris", "passing")
    for base, actions in (
        (f"/models/{name}", ("/predict", "/invocations")),
        (f"/v2/models/{name}", ("/generate", "/generate_stream")),
    )
    for action in actions
]
NAMES = ["features", "inputs", "text_input", "parameters", "id", "text", "half", "count", "sepal length (cm)"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
BODIES = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), VALUES, max_size=4).map(json.dumps).map(
    str.encode
) | st.binary(max_size=40)
RANGES = st.sampled_from(["text/event-stream", "application/x-ndjson", "application/jsonl", "application/json", "*/*"])
WEIGHTS = st.sampled_from(["", ";q=1", ";q=0", ";q=", ";q=nan", ";q=-1", ";x=1;q=0.3", ";;", " ; q = 0.5"])
ACCEPTS = st.lists(st.tuples(RANGES, WEIGHTS).map("".join), max_size=4).map(", ".join)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path, iris_file: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET="process") as server:
        server.deploy(iris_file, model_name="iris")
        server.deploy(passing_graph(tmp_path_factory.mktemp("graphs") / "passing.onnx"))
        yield server


@pytest.mark.parametrize("path", PATHS)
def test_nothing_that_is_sent_makes_a_route_fail(server: Server, path: str) -> None:
    statuses: set[int] = set()

    @settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(body=BODIES, accept=ACCEPTS)
    def attempt(body: bytes, accept: str) -> None:
        headers: Any = {"Content-Type": "application/json", "Accept": accept}
        answer = server.http.post(path, content=body, headers=headers)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, (answer.status_code, answer.content[:300])
        kind = answer.headers["content-type"].partition(";")[0]
        if answer.status_code != 200 or kind == "application/json" or kind == "application/problem+json":
            answer.json()

    attempt()
    assert statuses & {400, 422}
    wait_for(lambda: open_streams(server) == 0, 30, "every stream to be closed")
