"""Versions over HTTP and through the SDK: register, list, compare, roll back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.runtime.target import Targets
from app.settings import Settings
from prism import AsyncPrism
from prism.errors import ConflictError, InvalidRequest, NotFoundError
from tests.fakes import FakeTarget, read_here, resolve

MODEL = b"csklearn.linear_model._base\nLinearRegression\n)\x81."


class Gateway:
    def __init__(self, app: FastAPI, client: AsyncPrism, http: httpx2.AsyncClient) -> None:
        self.app, self.client, self.http = app, client, http

    async def answering(self, name: str = "fraud") -> str:
        return (await self.client.predict(name, inputs=[1])).version


@pytest.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    target = FakeTarget(tmp_path)
    monkeypatch.setattr("app.gateway.available_targets", lambda _: Targets({"process": target}, {"process": target}))
    monkeypatch.setattr("app.gateway.LockCache.resolve", resolve)
    monkeypatch.setattr("app.gateway.ReaderProcess.ask", lambda _, question: read_here(question))
    async with serving(tmp_path) as made:
        yield made


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[Gateway]:
    app = create_app(Settings(home=home, accelerate="off", drain_timeout_seconds=1, rate_limit_requests=0))
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http,
        AsyncPrism("http://127.0.0.1:8000", transport=transport) as client,
    ):
        yield Gateway(app, client, http)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(MODEL)
    return path


async def test_a_registered_version_is_the_next_major_one_and_takes_no_request_until_it_is_started(
    gateway: Gateway, file: Path
) -> None:
    client = gateway.client
    first = await client.register_model("fraud", path=file)
    second = await client.register_model("fraud", path=file)
    assert [(each.version, each.status, each.traffic) for each in (first, second)] == [
        ("1.0.0", "live", "all"),
        ("2.0.0", "live", "none"),
    ]
    assert (second.endpoint or "").endswith("/models/fraud@2.0.0/predict"), "the name leads to the other one"
    page = (await gateway.http.get(f"/model?model_id={second.model_id}")).text
    assert "runs beside the version that answers" in page
    assert [await gateway.answering() for _ in range(4)] == ["1.0.0"] * 4
    assert await gateway.answering("fraud@2.0.0") == "2.0.0"
    await client.models.start("fraud@2.0.0")
    assert await gateway.answering() == "2.0.0"
    pushed = await client.deploy(file, name="fraud")
    assert (pushed.version, await gateway.answering()) == ("2.1.0", "2.1.0")


async def test_the_lineage_tells_what_a_version_was_made_from_by_whom_and_how_good_it_is(
    gateway: Gateway, file: Path
) -> None:
    client = gateway.client
    await client.register_model("fraud", path=file, metadata={"auc": 0.91, "author": "Ada", "git_commit": "3f2c1ab"})
    second = await client.register_model("fraud", path=file, metadata={"metrics": {"auc": 0.94}}, version="3.0.0")
    assert (second.parent, second.framework, second.metadata) == ("1.0.0", "sklearn", {"metrics": {"auc": 0.94}})
    lineage = await client.versions("fraud")
    assert [(each.version, each.parent, each.created_by, each.share) for each in lineage] == [
        ("1.0.0", None, "Ada", 1.0),
        ("3.0.0", "1.0.0", "127.0.0.1", 0.0),
    ]
    assert lineage[0].metadata["git_commit"] == "3f2c1ab"
    diff = await client.diff("fraud", "1.0.0", "3.0.0")
    assert (diff.before, diff.after, diff.same_artifact) == ("1.0.0", "3.0.0", True)
    assert [(change.name, change.before, change.after) for change in diff.metrics] == [("auc", 0.91, 0.94)]
    assert (await client.diff("fraud", after="3.0.0")).before == "1.0.0", "its parent"


async def test_a_rollback_goes_to_the_version_before_or_to_the_one_that_is_named(gateway: Gateway, file: Path) -> None:
    client = gateway.client
    for _ in range(3):
        await client.deploy(file, name="fraud")
    assert (await client.rollback("fraud")).ref == "fraud@1.1.0"
    assert await gateway.answering() == "1.1.0"
    assert (await client.rollback("fraud", to="1.2.0")).status == "live"
    assert (await client.models.rollback("fraud@1.0.0")).status == "live"
    assert await gateway.answering() == "1.0.0"
    with pytest.raises(ConflictError, match=r"no version before 1\.0\.0 that was live.*prism versions fraud"):
        await client.rollback("fraud")
    with pytest.raises(NotFoundError, match=r"`fraud` has no version 1\.2\.1.*Did you mean 1\.2\.0\?"):
        await client.rollback("fraud", to="1.2.1")
    assert await gateway.answering() == "1.0.0"


async def test_what_does_not_exist_is_refused_with_the_nearest(gateway: Gateway, file: Path) -> None:
    await gateway.client.register_model("fraud", path=file)
    for path in ("/models/freud", "/models/freud/versions", "/models/freud/diff"):
        answer = await gateway.http.get(path)
        assert (answer.status_code, answer.json()["hint"]) == (404, "Did you mean `fraud`?")
    unknown = (await gateway.http.get("/models/fraud@9.0.0")).json()
    assert (unknown["detail"], unknown["hint"]) == ("`fraud` has no version 9.0.0.", "Its versions are 1.0.0.")
    alone = await gateway.http.get("/models/fraud/diff")
    assert (alone.status_code, "one version only" in alone.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ({"metadata": "[1]"}, "a JSON array, not an object"),
        ({"metadata": "{"}, "not JSON"),
        ({"metadata": '{"a": "' + "x" * (64 << 10) + '"}'}, "over 64 KiB"),
        ({"parent": "1.0.0"}, "has no version yet"),
        ({"version": "1.0"}, "not a semantic version"),
    ],
)
async def test_bad_fields_are_refused_and_nothing_is_registered(
    gateway: Gateway, texts: dict[str, str], told: str
) -> None:
    form: dict[str, Any] = {"files": {"file": ("model.pkl", MODEL)}, "data": {"model_name": "fraud", **texts}}
    answer = await gateway.http.post("/models", **form)
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["detail"]
    assert (await gateway.http.get("/models")).json()["models"] == []


async def test_models_are_listed_in_pages_and_by_framework(gateway: Gateway, file: Path) -> None:
    names = [f"m{number}" for number in range(5)]
    for name in names:
        await gateway.client.upload(file, name=name)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await gateway.http.get("/models", params={"limit": "2", "cursor": cursor})).json()
        seen += [model["name"] for model in page["models"]]
        cursor = page["next_cursor"]
    assert seen == names
    assert [model.name for model in await gateway.client.models.list("sklearn")] == names
    assert await gateway.client.models.list("onnx") == []
    for params in ({"framework": "cobol"}, {"cursor": "!!"}):
        assert (await gateway.http.get("/models", params=params)).status_code == 400


async def test_the_management_api_is_under_api_v1_too_and_listed_once(gateway: Gateway, file: Path) -> None:
    await gateway.client.register_model("fraud", path=file)
    plain, mounted = [(await gateway.http.get(f"{prefix}/models/fraud")).json() for prefix in ("", "/api/v1")]
    assert plain == mounted
    assert mounted["endpoint"] == "http://127.0.0.1:8000/models/fraud/predict"
    assert (await gateway.http.post("/api/v1/models/fraud/stop")).json()["status"] == "stopped"
    assert (await gateway.http.get("/api/v1/models/freud")).status_code == 404
    assert (await gateway.http.get("/api/v1/no-such-route")).headers["content-type"] == "application/problem+json"
    assert not [path for path in (await gateway.http.get("/openapi.json")).json()["paths"] if "/api/v1" in path]


async def test_rows_are_predicted_by_name_in_one_request(gateway: Gateway, file: Path) -> None:
    await gateway.client.register_model("fraud", path=file)
    answer = await gateway.http.post("/predict/fraud/batch", json=[1, 2])
    assert answer.json() == {"model": "fraud", "predictions": [[1, 2]]}, "the replica of the tests echoes"
    assert (await gateway.client.predict_batch("fraud", [[1], [2]])).model == "fraud"


async def test_a_model_is_given_from_memory_or_as_a_file_of_the_framework_that_is_named(
    gateway: Gateway, file: Path
) -> None:
    client = gateway.client
    with pytest.raises(InvalidRequest, match="a model or its file"):
        await client.register_model("fraud")
    with pytest.raises(InvalidRequest, match="no framework `cobol`"):
        await client.register_model("fraud", path=file, framework="cobol")
    with pytest.raises(InvalidRequest, match="is not made with torch but with builtins"):
        await client.register_model("fraud", {"a": 1}, framework="torch")
    with pytest.raises(InvalidRequest, match="Give one input"):
        await client.predict("fraud")
