"""KServe V1, MLflow and the plain routes by name, over ASGI."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.core.model import Status
from app.error_shapes import native_error
from app.protocols.error_forms import ERROR_FORMS
from model_container.adapters.estimator import EstimatorAdapter
from tests.unit.protocols.gateway import MAX_BODY_BYTES, Gateway, gateway

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]
CSV = "a,b,c,d\n5.1,3.5,1.4,0.2\n6.2,3.4,5.4,2.3\n"


def mlflow_error(answer: httpx2.Response) -> tuple[str, str]:
    """Code and words of a refusal, checked to be in MLflow's form."""
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document.keys() == {"error_code", "message"}
    return document["error_code"], document["message"]


class TestV1:
    async def test_answers_predictions_and_nothing_else(self, here: Gateway, iris: Any) -> None:
        answer = await here.http.post("/v1/models/iris:predict", json={"instances": ROWS})
        assert answer.status_code == 200
        assert answer.json() == {"predictions": iris.predict(ROWS).tolist()}
        assert answer.headers["x-model-version"] == "1.0.0"

    async def test_tells_which_models_there_are_and_whether_they_answer(self, here: Gateway) -> None:
        await here.add("m2", "old", status=Status.STOPPED, wanted=False, replicas=())
        assert (await here.http.get("/v1/models")).json() == {"models": ["iris"]}
        assert (await here.http.get("/v1/models/iris")).json() == {"name": "iris", "ready": True}
        assert (await here.http.get("/v1/models/old")).json() == {"name": "old", "ready": False}

    @pytest.mark.parametrize(
        ("method", "path", "content", "status"),
        [
            ("POST", "/v1/models/iris:predict", b'{"features": [[1]]}', 422),
            ("POST", "/v1/models/iris:predict", b"{", 400),
            ("POST", "/v1/models/nothing:predict", b"{}", 404),
            ("GET", "/v1/models/nothing", b"", 404),
            ("POST", "/v1/models/iris:explain", b"", 405),
            ("GET", "/v1/nothing", b"", 404),
            ("POST", "/v1/models/iris:predict", bytes(MAX_BODY_BYTES + 1), 413),
        ],
    )
    async def test_errors_have_its_form_on_every_path(
        self, here: Gateway, method: str, path: str, content: bytes, status: int
    ) -> None:
        answer = await here.http.request(method, path, content=content)
        assert answer.status_code == status
        assert answer.json().keys() == {"error"}


class TestMlflow:
    @pytest.mark.parametrize("path", ["/invocations", "/models/iris/invocations", "/models/m1/invocations"])
    @pytest.mark.parametrize(
        "body",
        [
            {"dataframe_split": {"columns": [0, 1, 2, 3], "index": [0, 1], "data": ROWS}},
            {"dataframe_records": [dict(zip("abcd", row, strict=True)) for row in ROWS]},
            {"instances": ROWS},
            {"inputs": ROWS, "params": {"any": 1}},
        ],
        ids=lambda body: next(iter(body)),
    )
    async def test_all_four_forms_are_answered(self, here: Gateway, iris: Any, path: str, body: Any) -> None:
        answer = await here.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"predictions": iris.predict(ROWS).tolist()}

    @pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8", 'TEXT/CSV; charset="UTF-8"'])
    async def test_a_csv_table_is_answered(self, here: Gateway, iris: Any, kind: str) -> None:
        answer = await here.http.post("/invocations", content=CSV, headers={"Content-Type": kind})
        assert answer.json() == {"predictions": iris.predict(ROWS).tolist()}

    async def test_which_model_is_meant_is_clear_as_long_as_one_name_is_live(self, here: Gateway) -> None:
        await here.add("m2", "iris", "1.1.0")
        await here.add("m3", "old", status=Status.STOPPED, wanted=False, replicas=())
        answer = await here.http.post("/invocations", json={"inputs": ROWS})
        assert answer.headers["x-model-version"] == "1.1.0"
        await here.add("m4", "other")
        answer = await here.http.post("/invocations", json={"inputs": ROWS})
        assert answer.status_code == 400
        code, message = mlflow_error(answer)
        assert code == "BAD_REQUEST"
        assert "/models/iris/invocations" in message
        assert "`other`" in message
        assert (await here.http.post("/models/other/invocations", json={"inputs": ROWS})).status_code == 200

    async def test_ping_fails_while_no_model_is_live(self, here: Gateway) -> None:
        assert (await here.http.get("/ping")).status_code == 200
        await here.state.remove("m1")
        await here.dispatcher.publish(here.state.route_table())
        for answer in (await here.http.get("/ping"), await here.http.post("/invocations", json={"inputs": ROWS})):
            assert answer.status_code == 503
            assert mlflow_error(answer)[0] == "TEMPORARILY_UNAVAILABLE"

    async def test_its_version_is_plain_text(self, here: Gateway) -> None:
        answer = await here.http.get("/version")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text

    @pytest.mark.parametrize(
        ("kind", "content", "status", "code"),
        [
            ("application/json; charset=latin-1", b"{}", 415, "BAD_REQUEST"),
            ("text/csv; header=present", CSV, 415, "BAD_REQUEST"),
            ("application/vnd.apache.parquet", b"PAR1", 415, "BAD_REQUEST"),
            ("application/json", b"{", 400, "BAD_REQUEST"),
            ("application/json", b'{"features": [[1]]}', 422, "INVALID_PARAMETER_VALUE"),
            ("text/csv", b"a,b\n1", 422, "INVALID_PARAMETER_VALUE"),
            ("text/csv", b"\xff", 400, "BAD_REQUEST"),
            ("application/json", bytes(MAX_BODY_BYTES + 1), 413, "BAD_REQUEST"),
        ],
    )
    async def test_refusals_have_the_mlflow_format(
        self, here: Gateway, kind: str, content: Any, status: int, code: str
    ) -> None:
        answer = await here.http.post("/invocations", content=content, headers={"Content-Type": kind})
        assert answer.status_code == status
        assert mlflow_error(answer)[0] == code

    async def test_caller_errors_have_the_mlflow_format(self, tmp_path: Path, iris: Any) -> None:
        async with gateway(tmp_path, EstimatorAdapter(iris), keys=["secret"], rate_limit=1) as here:
            for path in ("/invocations", "/models/iris/invocations", "/models/nothing/invocations"):
                answer = await here.http.post(path, json={"inputs": ROWS})
                assert answer.status_code == 401
                assert mlflow_error(answer)[0] == "UNAUTHENTICATED"
            keyed = {"X-API-Key": "secret"}
            assert (await here.http.post("/invocations", json={"inputs": ROWS}, headers=keyed)).status_code == 200
            answer = await here.http.post("/invocations", json={"inputs": ROWS}, headers=keyed)
            assert answer.status_code == 429
            assert mlflow_error(answer)[0] == "REQUEST_LIMIT_EXCEEDED"

    async def test_paths_of_prism_itself_keep_their_form(self, here: Gateway) -> None:
        paths = ["/", "/v", "/v20", "/v2x", "/models/iris/predict", "/predict/iris", "/pings"]
        assert {ERROR_FORMS.form(path) for path in paths} == {native_error}
        answer = await here.http.post("/models/nothing/predict", json={})
        assert answer.headers["content-type"] == "application/problem+json"


class TestByName:
    @pytest.mark.parametrize("path", ["/predict/iris", "/predict_batched/iris"])
    async def test_answers_the_model_and_its_predictions(self, here: Gateway, iris: Any, path: str) -> None:
        answer = await here.http.post(path, json={"features": ROWS})
        assert answer.json() == {"model": "iris", "predictions": iris.predict(ROWS).tolist()}

    async def test_lists_the_models_that_answer(self, here: Gateway) -> None:
        await here.add("m2", "old", status=Status.STOPPED, wanted=False, replicas=())
        assert (await here.http.get("/available_models")).json() == {"available_models": ["iris"]}

    async def test_single_rows_are_joined_where_that_is_asked_for(self, tmp_path: Path, iris: Any) -> None:
        async def one(row: list[float]) -> Any:
            answer = await here.http.post("/predict_batched/iris", json={"features": [row]})
            return answer.json()["predictions"]

        async with gateway(tmp_path, EstimatorAdapter(iris), batched_wait_seconds=2) as here:
            answers = await asyncio.gather(*(one(row) for row in ROWS * 3))
        assert [answer[0] for answer in answers] == iris.predict(ROWS * 3).tolist()
        assert here.replica.batches == [6]

    async def test_a_full_batch_leaves_without_waiting(self, tmp_path: Path, iris: Any) -> None:
        async with gateway(tmp_path, EstimatorAdapter(iris), batched_wait_seconds=3600) as here:
            asked = [here.http.post("/predict_batched/iris", json={"features": ROWS[:1]}) for _ in range(16)]
            async with asyncio.timeout(20):
                answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert here.replica.batches == [8, 8]

    async def test_an_unbatched_prediction_does_not_wait(self, tmp_path: Path, iris: Any) -> None:
        async with gateway(tmp_path, EstimatorAdapter(iris), batched_wait_seconds=3600) as here:
            async with asyncio.timeout(20):
                assert (await here.http.post("/predict/iris", json={"features": ROWS})).status_code == 200

    async def test_refusals_are_problem_documents(self, here: Gateway) -> None:
        for path in ("/predict/nothing", "/predict_batched/nothing"):
            answer = await here.http.post(path, json={"features": ROWS})
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
        answer = await here.http.post("/predict/iris", json={"features": [[1]]})
        assert answer.status_code == 422
        assert json.loads(answer.content)["code"] == "wrong_width"
