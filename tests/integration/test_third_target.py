"""A target that PRISM does not have: registered by a name, and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from app.main import create_app
from app.runtime.targets import TARGETS
from app.settings import Settings
from tests.fakes import FakeTarget, resolve

FORM = {"file": ("model.pkl", b"csklearn.linear_model._base\nLinearRegression\n)\x81.")}


@pytest.mark.parametrize("setting", ["process", "moon"])
async def test_a_model_is_deployed_on_a_target_that_was_only_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    moon = FakeTarget(tmp_path, "moon")
    moon.replica_noun = "crater"
    monkeypatch.setitem(TARGETS, "moon", lambda _: moon)
    monkeypatch.setattr("app.gateway.LockCache.resolve", resolve)
    app = create_app(Settings(home=tmp_path, target=setting, accelerate="off", drain_timeout_seconds=1))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8000") as http,
    ):
        form = (await http.get("/openapi.json")).json()["paths"]["/models"]["post"]["requestBody"]["content"]
        target = form["multipart/form-data"]["schema"]["properties"]["target"]
        assert target == {"type": "string", "enum": ["auto", "docker", "process", "moon"]}

        refused = await http.post("/models", files=FORM, data={"target": "mars"})
        assert refused.status_code == 400
        assert refused.json()["hint"] == "Targets: auto, docker, process, moon."

        staged = (await http.post("/models/inspect", files=FORM)).json()["upload_id"]
        page = (await http.get(f"/upload-model?upload_id={staged}")).text
        assert '<option value="moon">Moon crater</option>' in page or "Automatic (moon)" in page

        made = await http.post("/models", files=FORM, data={"target": "moon", "model_name": "iris"})
        assert made.status_code == 201, made.text
        document = made.json()
        assert (document["target"], document["status"]) == ("moon", "live")
        assert [replica["target"] for replica in document["replicas"]] == ["moon"]
        answered = await http.post("/models/iris/predict", json=[1])
        assert answered.json()["predictions"] == [[1]]
        assert ">Crater</th>" in (await http.get(f"/model?model_id={document['model_id']}")).text
        removed = (await http.delete("/models/iris")).json()["removed"]
        assert any(line.startswith("process ") for line in removed), "as the target describes it"
    assert not moon.fakes
