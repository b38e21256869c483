"""One name that two live versions share: every protocol splits its requests, and every document knows both."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from app.core.route import Arm, Route
from tests.unit.protocols.gateway import Gateway

ROW = [5.1, 3.5, 1.4, 0.2]
V2_BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}


@pytest.fixture
async def shared(here: Gateway) -> Gateway:
    """`iris` 1.0.0 (m1) gets three quarters of the requests, 1.1.0 (m2) the rest."""
    here.state.split("iris", Route((Arm("m1", 0.75), Arm("m2", 0.25))))
    await here.add("m2", "iris", "1.1.0")
    return here


async def versions(here: Gateway, path: str, body: dict[str, Any], count: int = 40) -> Counter[str]:
    answers = [await here.http.post(path, json=body) for _ in range(count)]
    assert {answer.status_code for answer in answers} == {200}
    return Counter(answer.headers["x-model-version"] for answer in answers)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models/iris/predict", {"features": [ROW]}),
        ("/predict/iris", {"features": [ROW]}),
        ("/v1/models/iris:predict", {"instances": [ROW]}),
        ("/v2/models/iris/infer", V2_BODY),
    ],
)
async def test_every_protocol_follows_the_route(shared: Gateway, path: str, body: dict[str, Any]) -> None:
    counts = await versions(shared, path, body)
    assert abs(counts["1.1.0"] - 10) <= 3
    assert counts.total() == 40


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
async def test_a_version_in_the_path_is_that_very_version(shared: Gateway, version: str) -> None:
    assert await versions(shared, f"/v2/models/iris/versions/{version}/infer", V2_BODY, 8) == {version: 8}
    assert await versions(shared, f"/models/iris@{version}/predict", {"features": [ROW]}, 8) == {version: 8}


async def test_the_name_is_listed_once_and_ready_and_both_versions_are_in_the_documents(shared: Gateway) -> None:
    assert (await shared.http.get("/v1/models")).json() == {"models": ["iris"]}
    assert (await shared.http.get("/available_models")).json() == {"available_models": ["iris"]}
    assert (await shared.http.get("/v1/models/iris")).json() == {"name": "iris", "ready": True}
    for path in ("", "/versions/1.0.0", "/versions/1.1.0"):
        assert (await shared.http.get(f"/v2/models/iris{path}/ready")).status_code == 200
        assert (await shared.http.get(f"/v2/models/iris{path}")).json()["versions"] == ["1.0.0", "1.1.0"]
    index = (await shared.http.post("/v2/repository/index", json={"ready": True})).json()
    assert [(entry["version"], entry["state"]) for entry in index] == [("1.0.0", "READY"), ("1.1.0", "READY")]
    config = (await shared.http.get("/v2/models/iris/config")).json()
    assert config["version_policy"] == {"specific": {"versions": ["1.0.0"]}}, "that of the greatest share"


async def test_statistics_are_those_of_the_version_that_answered(shared: Gateway) -> None:
    counts = await versions(shared, "/v2/models/iris/infer", V2_BODY)
    stats = (await shared.http.get("/v2/models/iris/stats")).json()["model_stats"]
    assert {each["version"]: each["inference_count"] for each in stats} == counts
