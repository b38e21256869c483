"""Every route that changes something, while the disk is full, read-only or broken, or no file can be opened.

For each route the first file operation fails and all after it, then the second and all after it, and so on until the
request needs no more of them. Routes come from the application's own table: a new one needs a line in RECIPES.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx2
import pytest
from fastapi import FastAPI

from app.gateway import Gateway
from app.lifecycle.deployments import IN_PROGRESS
from app.main import create_app
from app.registry.containers import ContainersFile
from app.registry.keys import KeyStore
from app.registry.models import ModelStore
from app.runtime.target import Targets
from app.settings import Settings
from tests.fakes import FakeTarget, eventually, read_here, resolve
from tests.faults import failing
from tests.unit.share.fakes import FakeTunnel

pytestmark = pytest.mark.slow

FAULTS = {errno.ENOSPC: (1, 1), errno.EMFILE: (1, 1), errno.EROFS: (1, 3), errno.EIO: (2, 3)}
"""Fault → the first operation that fails in the first try, and by how many tries are apart. A full disk and a process that
may open no file fail at each operation; what is read-only or broken is refused by the same code as what is full."""

FORM = {"file": ("model.pkl", b"csklearn.linear_model._base\nLinearRegression\n)\x81.")}


class Recipe(NamedTuple):
    """How a route is asked. {m}, {k}, {u}: a model that runs, a key, an upload that waits, which it then needs.

    every: which of the operations are tried as the first that fails; 1 is each.
    """

    path: str
    sent: Mapping[str, Any] = {}
    before: str = ""
    every: int = 1


ASKED = {"json": {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}]}}
TEXTS = {"json": {"text_input": "a"}}
ROWS = {"json": {"features": [[1.0]]}}
CANDIDATE = {"json": {"name": "{m}", "candidate_version": "1.0.0"}}
RECIPES = {
    "POST /models/upload-and-run": Recipe("/models/upload-and-run", {"files": FORM}),
    "POST /models": Recipe("/models", {"files": FORM}, every=7),
    "POST /models/upload": Recipe("/models/upload", {"files": FORM}, every=5),
    "POST /models/inspect": Recipe("/models/inspect", {"files": FORM}),
    "POST /api/upload-and-run-ui": Recipe("/api/upload-and-run-ui", {"files": FORM}, every=7),
    "POST /upload-model/forget": Recipe("/upload-model/forget", {"data": {"upload_id": "{u}"}}),
    "POST /deploy-sample": Recipe("/deploy-sample", every=5),
    "PATCH /models/x": Recipe("/models/{m}", {"json": {"replicas": 2}}),
    "DELETE /models/x": Recipe("/models/{m}"),
    "POST /models/x/start": Recipe("/models/{m}/start", before="stop", every=2),
    "POST /models/x/stop": Recipe("/models/{m}/stop"),
    "POST /models/x/restart": Recipe("/models/{m}/restart"),
    "POST /models/x/rollback": Recipe("/models/{m}/rollback", {"json": {"to": "1.0.0"}}, before="stop", every=3),
    "POST /models/x/chaos": Recipe("/models/{m}/chaos", {"json": {"errors": 0.5, "seconds": 1}}, before="live"),
    "DELETE /models/x/chaos": Recipe("/models/{m}/chaos", before="live"),
    "POST /deployments/canary": Recipe("/deployments/canary", CANDIDATE, before="live"),
    "POST /deployments/canary/x/promote": Recipe("/deployments/canary/x/promote"),
    "POST /deployments/canary/x/rollback": Recipe("/deployments/canary/x/rollback"),
    "POST /deployments/canary/x/pause": Recipe("/deployments/canary/x/pause"),
    "POST /deployments/canary/x/resume": Recipe("/deployments/canary/x/resume"),
    "POST /deployments/shadow": Recipe("/deployments/shadow", {"json": {"name": "{m}", "shadow_version": "1.0.0"}}),
    "POST /deployments/ab": Recipe("/deployments/ab", {"json": {"name": "{m}", "variants": {"1.0.0": 1, "9.0.0": 1}}}),
    "POST /deployments/x/stop": Recipe("/deployments/x/stop"),
    "POST /feedback": Recipe("/feedback", {"json": {"request_id": "r", "metric": "sale", "value": 1}}),
    "POST /rollouts-ui": Recipe("/rollouts-ui", {"data": {"model_id": "{m}"}}),
    "POST /rollouts-ui/x/x": Recipe("/rollouts-ui/x/promote", {"data": {"model_id": "{m}"}}),
    "POST /shadows-ui": Recipe("/shadows-ui", {"data": {"model_id": "{m}"}}),
    "POST /shadows-ui/x/stop": Recipe("/shadows-ui/x/stop", {"data": {"model_id": "{m}"}}),
    "POST /models/x/dismiss": Recipe("/models/{m}/dismiss", before="stop"),
    "POST /dismiss": Recipe("/dismiss", {"data": {"model_id": "{m}"}}, every=3),
    "POST /delete-models": Recipe("/delete-models", {"data": {"model_id": "{m}"}}, before="stop", every=3),
    "POST /storage/prune": Recipe("/storage/prune"),
    "POST /settings/prune-images": Recipe("/settings/prune-images"),
    "POST /models-ui/x/delete": Recipe("/models-ui/{m}/delete", every=3),
    "POST /models-ui/x/scale": Recipe("/models-ui/{m}/scale", {"data": {"replicas": "2"}}, every=3),
    "POST /models-ui/x/x": Recipe("/models-ui/{m}/restart", every=3),
    "POST /registry/prune-stale": Recipe("/registry/prune-stale"),
    "POST /keys": Recipe("/keys", {"json": {"name": "another"}}),
    "DELETE /keys/x": Recipe("/keys/{k}"),
    "POST /settings/keys": Recipe("/settings/keys", {"data": {"name": "another"}}),
    "POST /settings/keys/x/revoke": Recipe("/settings/keys/{k}/revoke"),
    "POST /share": Recipe("/share", {"json": {"models": ["{m}"], "create_key": True}}, every=4),
    "DELETE /share": Recipe("/share", before="share"),
    "DELETE /share/x": Recipe("/share/{m}", before="share"),
    "POST /share-ui/x": Recipe("/share-ui/{m}", {"data": {"access": "key"}}, every=11),
    "POST /share-ui/x/stop": Recipe("/share-ui/{m}/stop", before="share"),
    "POST /v2/repository/models/x/load": Recipe("/v2/repository/models/{m}/load", before="stop", every=13),
    "POST /v2/repository/models/x/unload": Recipe("/v2/repository/models/{m}/unload"),
    "POST /v2/repository/index": Recipe("/v2/repository/index"),
    "POST /login": Recipe("/login", {"data": {"key": "wrong"}}),
    "POST /logout": Recipe("/logout"),
    "POST /invocations": Recipe("/invocations", ROWS, before="live"),
    "POST /predict-result": Recipe("/predict-result?model_id={m}", {"data": {"body": "[[1]]"}}),
    "POST /predict-table": Recipe("/predict-table?model_id={m}", {"data": {"x": "1"}}, every=3),
    "POST /models/x/predict": Recipe("/models/{m}/predict", ROWS),
    "POST /models/x/invocations": Recipe("/models/{m}/invocations", ROWS),
    "POST /predict/x": Recipe("/predict/{m}", ROWS),
    "POST /predict/x/batch": Recipe("/predict/{m}/batch", ROWS),
    "POST /predict_batched/x": Recipe("/predict_batched/{m}", ROWS),
    "POST /v1/models/x:predict": Recipe("/v1/models/{m}:predict", {"json": {"instances": [[1.0]]}}),
    "POST /v2/models/x/generate": Recipe("/v2/models/{m}/generate", TEXTS),
    "POST /v2/models/x/generate_stream": Recipe("/v2/models/{m}/generate_stream", TEXTS),
    "POST /v2/models/x/infer": Recipe("/v2/models/{m}/infer", ASKED),
    "POST /v2/models/x/versions/x/generate": Recipe("/v2/models/{m}/versions/1.0.0/generate", TEXTS),
    "POST /v2/models/x/versions/x/generate_stream": Recipe("/v2/models/{m}/versions/1.0.0/generate_stream", TEXTS),
    "POST /v2/models/x/versions/x/infer": Recipe("/v2/models/{m}/versions/1.0.0/infer", ASKED),
}
OPERATIONS_MAX = 200
"""More than any route needs; one that never gets done is a failure."""


class Here:
    """A server of this process on a target of our own, and one request after another to it."""

    def __init__(self, app: FastAPI, home: Path, target: FakeTarget, http: httpx2.AsyncClient) -> None:
        self.system: Gateway = app.state.system
        self.home, self.target, self.http = home, target, http

    async def ready(self, recipe: Recipe) -> dict[str, str]:
        """What the recipe's words stand for now."""
        words, named = {}, str((recipe.path, recipe.sent))
        if "{m}" in named or recipe.before:
            words["m"] = f"m{secrets.token_hex(3)}"
            made = await self.http.post("/models", files=FORM, data={"model_name": words["m"]})
            assert made.status_code == 201, made.text
            by_id = any(part in named for part in ("-ui/", "predict-result", "predict-table", "delete-models"))
            words["m"] = made.json()["model_id"] if by_id else words["m"]
        if "{k}" in named:
            words["k"] = (await self.http.post("/keys", json={"name": "k"})).json()["id"]
        if "{u}" in named:
            words["u"] = (await self.http.post("/models/inspect", files=FORM)).json()["upload_id"]
        if recipe.before == "stop":
            assert (await self.http.post(f"/models/{words['m']}/stop")).status_code == 200
        if recipe.before == "share":
            assert (await self.http.post("/share", json={"models": [words["m"]], "open": True})).status_code == 200
        return words

    async def settled(self) -> None:
        for model in self.system.state.models():
            await self.system.deployments.settled(model.model_id)

    async def check(self, told: str) -> None:
        """Nothing is left of what failed, and the next server's start will find just what holds here."""
        deployments = self.system.state.deployments()
        assert not [one for one in deployments if one.status in IN_PROGRESS], told
        assert {one.model_id for one in deployments} == {one.model_id for one in self.system.state.models()}, told
        recorded = {replica.id for one in deployments for replica in one.replicas}
        assert set(self.target.fakes) == recorded, told
        assert self.system.share.status.state.value != "starting", told
        await self.system.unsaved.write_all()
        assert self.system.unsaved.documents() == [], told
        try:
            await eventually(lambda: self.folders() <= self.known_folders(), 5)
        except AssertionError:
            pytest.fail(f"{told}: {[str(one) for one in self.home.rglob('*')]}")
        self.check_disk(told)

    def folders(self) -> set[str]:
        root = self.system.settings.upload_root
        return {path.name for path in root.iterdir()} if root.exists() else set()

    def known_folders(self) -> set[str]:
        return {one.model_id for one in self.system.state.models()} | self.staged

    @property
    def staged(self) -> set[str]:
        def is_there(name: str) -> bool:
            try:
                return self.system.staging.get(name) is not None
            except Exception:
                return False

        return {name for name in self.folders() if is_there(name)}

    def check_disk(self, told: str) -> None:
        settings = self.system.settings
        registry, keys, store = (
            ContainersFile(settings.registry_path),
            KeyStore(settings.registry_path.with_name("keys.json")),
            ModelStore(settings.upload_root),
        )
        assert registry.load(), told
        keys.load()
        store.load()
        assert registry.all() == self.system.state.deployments(), told
        assert keys.entries() == self.system.key_store.entries(), told
        assert store.all() == self.system.state.models(), told

    async def clear(self) -> None:
        await self.system.share.stop()
        for entry in self.system.key_store.entries():
            self.system.key_store.revoke(entry.id)
        for model in self.system.state.models():
            await self.system.deployments.delete(model)
        for name in self.staged:
            await self.system.staging.forget(name)


@asynccontextmanager
async def serving(home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    target = FakeTarget(sockets)
    monkeypatch.setattr("app.gateway.available_targets", lambda _: Targets({"process": target}, {"process": target}))
    monkeypatch.setattr("app.gateway.LockCache.resolve", resolve)
    monkeypatch.setattr("app.gateway.ReaderProcess.ask", lambda _, question: read_here(question))
    monkeypatch.setattr("app.lifecycle.intake.receive.DISCARD_PAUSES_SECONDS", (0.01,) * 200)
    monkeypatch.setattr("app.gateway.tunnel", lambda _: FakeTunnel())
    app = create_app(
        Settings(home=home, target="process", accelerate="off", drain_timeout_seconds=1, single_active_model=False)
    )
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http,
    ):
        yield Here(app, home, target, http)


def filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"{([mku])}", lambda found: words[found[1]], value)
    if isinstance(value, Mapping):
        return {key: filled(one, words) for key, one in value.items()}
    return [filled(one, words) for one in value] if isinstance(value, list) else value


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method that may change something, with `x` for what varies in its path."""

    def below(found: Any) -> Iterator[tuple[str, str]]:
        for route in found:
            for method in getattr(route, "methods", None) or ():
                yield method, re.sub(r"{\w+}", "x", route.path)
            yield from below(getattr(getattr(route, "original_router", None), "routes", ()))

    return ((method, path) for method, path in below(app.routes) if method in ("POST", "PUT", "PATCH", "DELETE"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be had: thousands of fsyncs are nothing there."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_every_route_that_changes_something_is_covered(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, target="process"))
    assert {" ".join(route) for route in routes(app)} == RECIPES.keys()


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
async def test_every_route_reports_a_full_disk_and_leaves_nothing(
    number: int, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    async with serving(home, sockets, monkeypatch) as here:
        for name, recipe in RECIPES.items():
            begin, step = FAULTS[number]
            for first in range(begin, OPERATIONS_MAX, step * recipe.every):
                if not await tried(here, name, recipe, number, first):
                    break
            else:
                pytest.fail(f"{name} never gets done")


async def tried(here: Here, name: str, recipe: Recipe, number: int, first: int) -> bool:
    """Whether anything failed."""
    words = await here.ready(recipe)
    method, told = name.partition(" ")[0], f"{name}, {errno.errorcode[number]} from operation {first} on"
    path, sent = filled(recipe.path, words), {key: filled(one, words) for key, one in recipe.sent.items()}
    if recipe.sent.get("files"):
        sent["files"] = FORM
    with failing(number, here.home, first) as faults:
        answer = await here.http.request(method, path, **sent)
        await here.settled()
    judge(answer, number, told, failed=bool(faults.failed))
    assert (await here.http.get("/models")).status_code == 200, told
    await here.check(told)
    await here.clear()
    return bool(faults.failed)


def judge(answer: httpx2.Response, number: int, told: str, *, failed: bool) -> None:
    """Done all the same, or refused as the fault that it was, or because its database, the catalog, is away.

    A page says the same in its own words.
    """
    told = f"{told}: {answer.status_code} {answer.text[:500]}"
    of_catalog = b'"code":"catalog_unavailable"' in answer.content
    refusals = {503, 507} if number == errno.EMFILE or of_catalog else {507}
    assert answer.status_code in {200, 201, 303, *refusals} or (not failed and answer.status_code != 500), told
    if answer.status_code in refusals and answer.headers["content-type"].startswith("application/"):
        problem = answer.json()
        if "error" not in problem:  # the V2 routes have a text alone
            codes = {"disk_full", "storage_read_only", "storage_failed", "too_many_open_files", "catalog_unavailable"}
            assert problem["code"] in codes, told
            assert problem["hint"], told
    assert answer.status_code != 503 or int(answer.headers.get("retry-after", "0")) > 0, told
    assert "Traceback" not in answer.text, told
