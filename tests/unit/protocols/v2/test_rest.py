"""The routes of the Open Inference Protocol V2, over ASGI."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from app.core.model import Status
from model_container.adapters.estimator import EstimatorAdapter
from tests.unit.protocols.gateway import MAX_BODY_BYTES, Gateway, gateway

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]])
LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/iris/infer"
JSON_BODY = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP64", "data": ROWS.ravel().tolist()}]}


def written(
    rows: Any = ROWS, *, binary: bool = True, outputs: list[InferRequestedOutput] | None = None, **more: Any
) -> tuple[bytes, dict[str, str]]:
    """Body and headers as Triton's client makes them."""
    one = InferInput("x", list(rows.shape), "FP64").set_data_from_numpy(rows, binary_data=binary)
    body, json_size = InferenceServerClient.generate_request_body([one], outputs=outputs, **more)
    return body, {} if json_size is None else {LENGTH: str(json_size)}


def result(answer: httpx2.Response) -> InferResult:
    assert answer.status_code == 200, answer.text
    length = answer.headers.get(LENGTH)
    return InferResult.from_response_body(answer.content, header_length=None if length is None else int(length))


def error(answer: httpx2.Response) -> str:
    """The words of a refusal, checked to be in V2's form."""
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document.keys() == {"error"}
    assert answer.headers["x-request-id"]
    return str(document["error"])


class TestInfer:
    async def test_answers_binary_tensors_with_binary_tensors(self, here: Gateway, iris: Any) -> None:
        body, headers = written(request_id="7")
        answer = await here.http.post(INFER, content=body, headers=headers)
        assert answer.headers["content-type"] == "application/octet-stream"
        said = result(answer)
        assert said.as_numpy("predictions").tolist() == [one.encode() for one in iris.predict(ROWS)]
        document = said.get_response()
        assert (document["model_name"], document["model_version"], document["id"]) == ("iris", "1.0.0", "7")

    async def test_answers_json_with_json(self, here: Gateway, iris: Any) -> None:
        answer = await here.http.post(INFER, json=JSON_BODY)
        assert answer.headers["content-type"] == "application/json"
        assert LENGTH not in answer.headers
        (output,) = answer.json()["outputs"]
        assert output == {
            "name": "predictions",
            "datatype": "BYTES",
            "shape": [2],
            "data": iris.predict(ROWS).tolist(),
        }

    async def test_takes_the_version_in_the_path(self, here: Gateway) -> None:
        await here.add("m2", "iris", "1.1.0")
        for version in ("1.0.0", "1.1.0"):
            answer = await here.http.post(f"/v2/models/iris/versions/{version}/infer", json=JSON_BODY)
            assert answer.json()["model_version"] == version
        answer = await here.http.post("/v2/models/iris/versions/9.0.0/infer", json=JSON_BODY)
        assert answer.status_code == 404
        assert "iris@9.0.0" in error(answer)

    async def test_infer_is_limited_counted_and_logged_like_every_prediction(self, here: Gateway) -> None:
        answer = await here.http.post(INFER, json=JSON_BODY)
        assert answer.headers["x-model-version"] == "1.0.0"
        assert "inference;dur=" in answer.headers["server-timing"]
        assert here.dispatcher.tallies["m1"].statuses == {200: 1}

    @pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999", "²", str(10**30)])
    async def test_an_impossible_json_length_is_refused(self, here: Gateway, length: str) -> None:
        body, _ = written()
        answer = await here.http.post(INFER, content=body, headers={LENGTH: length.encode("latin-1", "replace")})
        assert answer.status_code == 400
        assert LENGTH in error(answer)

    async def test_errors_of_the_runtime_are_passed_on_unchanged(self, here: Gateway) -> None:
        body, headers = written(ROWS[:, :2])
        answer = await here.http.post(INFER, content=body, headers=headers)
        assert answer.status_code == 422
        assert "4" in error(answer)
        assert answer.headers["x-model-version"] == "1.0.0"

    async def test_a_native_body_is_refused_in_its_form(self, here: Gateway) -> None:
        answer = await here.http.post(INFER, json={"features": ROWS.tolist()})
        assert answer.status_code == 422
        assert "inputs" in error(answer)

    async def test_a_request_whose_client_leaves_is_dropped(self, tmp_path: Path, iris: Any) -> None:
        let_go, asked = asyncio.Event(), asyncio.Event()

        async def handler(requests: list[Any]) -> list[Any]:
            asked.set()
            await let_go.wait()
            raise ConnectionResetError

        async with gateway(tmp_path, EstimatorAdapter(iris), handler=handler) as here:
            messages = [{"type": "http.request", "body": json.dumps(JSON_BODY).encode(), "more_body": False}]

            async def receive() -> dict[str, Any]:
                if messages:
                    return messages.pop()
                await asked.wait()
                return {"type": "http.disconnect"}

            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            transport: Any = here.http._transport
            scope = {
                "type": "http",
                "method": "POST",
                "path": INFER,
                "raw_path": INFER.encode(),
                "query_string": b"",
                "headers": [(b"host", b"127.0.0.1")],
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 8000),
                "scheme": "http",
                "http_version": "1.1",
            }
            await transport.app(scope, receive, send)
            assert here.dispatcher.tallies["m1"].statuses == {}
            let_go.set()


class TestCompression:
    @pytest.mark.parametrize(
        ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)]
    )
    async def test_bodies_may_be_compressed(
        self, here: Gateway, encoding: str, compress: Callable[[bytes], bytes]
    ) -> None:
        body, headers = written()
        wanted = result(await here.http.post(INFER, content=body, headers=headers)).as_numpy("predictions")
        headers["Content-Encoding"] = encoding
        answer = await here.http.post(INFER, content=compress(body), headers=headers)
        np.testing.assert_array_equal(result(answer).as_numpy("predictions"), wanted)

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_answers_are_compressed_if_the_client_accepts_it(self, here: Gateway, encoding: str) -> None:
        body, headers = written(np.repeat(ROWS, 200, axis=0))
        plain = await here.http.post(INFER, content=body, headers={**headers, "Accept-Encoding": "identity"})
        packed = await here.http.post(INFER, content=body, headers={**headers, "Accept-Encoding": encoding})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == encoding
        assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert packed.content == plain.content
        assert packed.headers[LENGTH] == plain.headers[LENGTH]

    async def test_small_answers_are_not(self, here: Gateway) -> None:
        answer = await here.http.post(INFER, json=JSON_BODY, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in answer.headers

    async def test_a_decompression_bomb_is_too_large(self, here: Gateway) -> None:
        bomb = gzip.compress(bytes(200 * MAX_BODY_BYTES))
        assert len(bomb) < MAX_BODY_BYTES
        answer = await here.http.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 413
        assert "PRISM_MAX_BODY_MB" in error(answer)

    @pytest.mark.parametrize(
        ("body", "encoding", "status"),
        [
            (gzip.compress(b"{}" * 99, mtime=0)[:-9], "gzip", 400),
            (b"no gzip at all", "gzip", 400),
            (zlib.compress(b"{}") + b"more", "deflate", 400),
            (b"x", "deflate", 400),
            (b"{}", "br", 415),
            (b"{}", "gzip, gzip", 415),
        ],
    )
    async def test_what_cannot_be_expanded_is_refused(
        self, here: Gateway, body: bytes, encoding: str, status: int
    ) -> None:
        answer = await here.http.post(INFER, content=body, headers={"Content-Encoding": encoding})
        assert answer.status_code == status
        assert error(answer)


class TestMetadata:
    async def test_of_the_server(self, here: Gateway) -> None:
        said = (await here.http.get("/v2")).json()
        assert said["name"] == "PRISM"
        assert "binary_tensor_data" in said["extensions"]
        assert (await here.http.get("/v2/health/live")).json() == {"live": True}
        assert (await here.http.get("/v2/health/ready")).json()["ready"] is True

    async def test_of_a_model(self, here: Gateway) -> None:
        await here.add("m2", "iris", "1.1.0")
        said = (await here.http.get("/v2/models/iris")).json()
        assert said["versions"] == ["1.0.0", "1.1.0"]
        assert [one["datatype"] for one in said["inputs"]] == ["FP64"] * 4
        assert [one["name"] for one in said["outputs"]] == ["predictions", "probabilities"]
        assert (await here.http.get("/v2/models/iris/versions/1.0.0")).json() == said
        assert (await here.http.get("/v2/models/iris/ready")).json() == {"name": "iris", "ready": True}

    async def test_datatypes_that_the_artifact_does_not_give_come_from_the_sample(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, EstimatorAdapter(lambda rows: rows)) as here:
            (one,) = (await here.http.get("/v2/models/iris")).json()["inputs"]
        assert one == {"name": "input", "datatype": "FP64", "shape": [-1, -1]}

    async def test_a_model_that_takes_no_traffic_is_not_ready(self, here: Gateway) -> None:
        await here.add("m2", "old", status=Status.STOPPED, wanted=False, replicas=())
        answer = await here.http.get("/v2/models/old/ready")
        assert answer.status_code == 503
        assert "stopped" in error(answer)
        answer = await here.http.post("/v2/models/old/infer", json=JSON_BODY)
        assert answer.status_code == 409
        assert error(answer)
        assert (await here.http.get("/v2/models/old")).status_code == 200

    async def test_while_a_wanted_model_takes_no_traffic_the_server_is_live_and_not_ready(self, here: Gateway) -> None:
        await here.state.remove("m1")
        answer = await here.http.get("/v2/health/ready")
        assert answer.status_code == 503
        assert error(answer)
        assert (await here.http.get("/v2/health/live")).status_code == 200


class TestRepository:
    async def test_the_index_lists_every_version_with_the_reason_if_it_is_not_ready(self, here: Gateway) -> None:
        await here.add("m2", "broken", status=Status.FAILED, replicas=(), error={"detail": "It has no predict."})
        await here.add("m3", "coming", status=Status.BUILDING, replicas=())
        entries = (await here.http.post("/v2/repository/index")).json()
        assert entries == [
            {"name": "iris", "version": "1.0.0", "state": "READY", "reason": ""},
            {"name": "broken", "version": "1.0.0", "state": "UNAVAILABLE", "reason": "It has no predict."},
            {"name": "coming", "version": "1.0.0", "state": "LOADING", "reason": "building"},
        ]
        ready = await here.http.post("/v2/repository/index", json={"ready": True})
        assert [one["name"] for one in ready.json()] == ["iris"]

    async def test_statistics_count_what_was_answered_and_refused(self, here: Gateway) -> None:
        for _ in range(3):
            await here.http.post(INFER, json=JSON_BODY)
        await here.http.post(INFER, json={})
        (said,) = (await here.http.get("/v2/models/iris/stats")).json()["model_stats"]
        stats = said["inference_stats"]
        assert (said["inference_count"], said["execution_count"]) == (3, 4)
        assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 1)
        assert stats["success"]["ns"] > stats["queue"]["ns"] > 0
        assert stats["compute_infer"]["ns"] > 0
        assert said["last_inference"] > 1_700_000_000_000
        assert (await here.http.get("/v2/models/iris/versions/1.0.0/stats")).json()["model_stats"] == [said]

    async def test_statistics_of_all_models_are_there_before_any_request(self, here: Gateway) -> None:
        (said,) = (await here.http.get("/v2/models/stats")).json()["model_stats"]
        assert (said["name"], said["last_inference"], said["inference_count"]) == ("iris", 0, 0)

    async def test_the_configuration_is_in_tritons_words(self, here: Gateway) -> None:
        said = (await here.http.get("/v2/models/iris/config")).json()
        assert said["max_batch_size"] == 0
        assert said["input"][0] == {"name": "feature1", "data_type": "TYPE_FP64", "dims": [-1], "optional": False}
        assert said["output"][0] == {"name": "predictions", "data_type": "TYPE_STRING", "dims": [-1]}


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v2/nothing", 404),
            ("GET", "/v2/models/nothing", 404),
            ("GET", "/v2/models/nothing/ready", 404),
            ("GET", "/v2/models/nothing/stats", 404),
            ("GET", "/v2/models/nothing/config", 404),
            ("POST", "/v2/models/nothing/infer", 404),
            ("GET", "/v2/models/iris/versions/7", 404),
            ("GET", INFER, 405),
            ("DELETE", "/v2/models/iris", 405),
            ("POST", "/v2/health/live", 405),
            ("GET", "/v2/repository/index", 405),
        ],
    )
    async def test_have_the_form_of_the_protocol_on_every_path(
        self, here: Gateway, method: str, path: str, status: int
    ) -> None:
        for accept in ("*/*", "text/html"):
            answer = await here.http.request(method, path, headers={"Accept": accept})
            assert answer.status_code == status
            assert error(answer)

    async def test_also_where_the_host_is_refused(self, here: Gateway) -> None:
        answer = await here.http.get("/v2", headers={"Host": "evil.example"})
        assert answer.status_code == 403
        assert "PRISM_ALLOWED_HOSTS" in error(answer)

    async def test_also_without_a_key(self, tmp_path: Path, iris: Any) -> None:
        async with gateway(tmp_path, EstimatorAdapter(iris), keys=["secret"]) as here:
            paths = [
                ("POST", INFER),
                ("GET", "/v2/models/iris"),
                ("GET", "/v2/models/stats"),
                ("POST", "/v2/repository/index"),
            ]
            for method, path in paths:
                answer = await here.http.request(method, path)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
                assert error(answer)
                answer = await here.http.request(method, path, headers={"Authorization": "Bearer secret"})
                assert answer.status_code != 401
            assert (await here.http.get("/v2/health/live")).status_code == 200

    async def test_also_past_the_limit(self, tmp_path: Path, iris: Any) -> None:
        async with gateway(tmp_path, EstimatorAdapter(iris), rate_limit=1) as here:
            assert (await here.http.post(INFER, json=JSON_BODY)).status_code == 200
            answer = await here.http.post(INFER, json=JSON_BODY)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert error(answer)

    async def test_also_for_bodies_over_the_limit(self, here: Gateway) -> None:
        answer = await here.http.post(INFER, content=bytes(MAX_BODY_BYTES + 1))
        assert answer.status_code == 413
        assert error(answer)

    async def test_also_for_types_that_are_not_taken(self, here: Gateway) -> None:
        answer = await here.http.post(INFER, content=b"a=b", headers={"Content-Type": "text/plain"})
        assert answer.status_code == 415
        assert error(answer)

    async def test_also_while_no_replica_answers(self, here: Gateway) -> None:
        await here.replica.die()
        answer = await here.http.post(INFER, json=JSON_BODY)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert error(answer)
