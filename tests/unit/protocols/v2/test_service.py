"""One service answers REST and gRPC: both say the same, admit the same callers and count the same refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.json_format import MessageToDict
from msgspec import structs

from app.access.admins import AdminCheck
from app.access.admission import Admission
from app.access.keys import Keys
from app.access.throttle import FailedKeyThrottle
from app.core.model import Status
from app.core.route import Arm, Canary, Route
from app.core.route_table import route_table
from app.errors import NotFound, PrismError, Unauthorized
from app.protocols.callers import Caller
from app.protocols.v2.grpc import inference_pb2 as messages
from app.protocols.v2.grpc.service import Service
from app.protocols.v2.service import V2Service
from model_container.adapters.estimator import EstimatorAdapter
from tests.fakes import fake_replica
from tests.unit.dispatch.canary_lab import answering, problem
from tests.unit.protocols.gateway import Gateway, gateway

CALLER = Caller("secret", "127.0.0.1", "r1")
STRANGER = Caller("", "127.0.0.1", "r1")
KEYED = {"X-API-Key": "secret"}


@pytest.fixture
async def here(tmp_path: Path, iris: Any) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path, EstimatorAdapter(iris), keys=["secret"]) as made:
        await made.add("m2", "iris", "1.1.0")
        await made.add("m3", "old", status=Status.STOPPED, wanted=False, replicas=())
        yield made


def over_grpc(here: Gateway) -> Service:
    """Make the service as gateway.py does, without what changes deployments."""
    keys, wrong_keys = Keys(["secret"]), FailedKeyThrottle()
    admission = Admission(keys, lambda: True, lambda host: True, wrong_keys)
    service = V2Service(here.dispatcher, admission, here.state, lambda: True)
    return Service(here.dispatcher, service, cast(Any, None), AdminCheck(keys, wrong_keys))


def document(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


async def over_rest(here: Gateway, path: str, method: str = "GET") -> Any:
    answer = await here.http.request(method, path, headers=KEYED)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_metadata_is_the_same(here: Gateway) -> None:
    answer = await over_grpc(here).model_metadata(messages.ModelMetadataRequest(name="iris"), CALLER)
    rest = await over_rest(here, "/v2/models/iris")
    assert rest["versions"] == ["1.0.0", "1.1.0"]
    for tensor in (*rest["inputs"], *rest["outputs"]):
        tensor["shape"] = [str(size) for size in tensor["shape"]]  # as JSON has int64
    assert {key: document(answer.message)[key] for key in rest} == rest


async def test_the_index_is_the_same_with_and_without_what_takes_no_traffic(here: Gateway) -> None:
    for only_ready, names in ((True, ["iris", "iris"]), (False, ["iris", "iris", "old"])):
        answer = await over_grpc(here).repository_index(messages.RepositoryIndexRequest(ready=only_ready), CALLER)
        rest = await here.http.post("/v2/repository/index", json={"ready": only_ready}, headers=KEYED)
        assert document(answer.message)["models"] == rest.json()
        assert [each["name"] for each in rest.json()] == names


@pytest.mark.parametrize(
    ("name", "version", "path", "versions"),
    [
        ("", "", "/v2/models/stats", ["1.0.0", "1.1.0", "1.0.0"]),
        ("iris", "", "/v2/models/iris/stats", ["1.0.0", "1.1.0"]),
        ("iris", "1.0.0", "/v2/models/iris/versions/1.0.0/stats", ["1.0.0"]),
        ("m2", "", "/v2/models/m2/stats", ["1.1.0"]),
    ],
)
async def test_statistics_are_of_the_same_versions(
    here: Gateway, name: str, version: str, path: str, versions: list[str]
) -> None:
    request = messages.ModelStatisticsRequest(name=name, version=version)
    answer = await over_grpc(here).model_statistics(request, CALLER)
    rest = await over_rest(here, path)
    assert [each.version for each in answer.message.model_stats] == versions
    assert [each["version"] for each in rest["model_stats"]] == versions


async def test_readiness_is_the_same(here: Gateway) -> None:
    for name, status in (("iris", 200), ("iris@1.0.0", 200), ("old", 503)):
        answer = await over_grpc(here).model_ready(messages.ModelReadyRequest(name=name), CALLER)
        rest = await here.http.get(f"/v2/models/{name}/ready", headers=KEYED)
        assert (rest.status_code, answer.message.ready) == (status, status == 200)


@pytest.mark.parametrize(
    ("method", "request_", "path", "verb"),
    [
        ("model_ready", messages.ModelReadyRequest(name="iris"), "/v2/models/iris/ready", "GET"),
        ("model_metadata", messages.ModelMetadataRequest(name="iris"), "/v2/models/iris", "GET"),
        ("model_config", messages.ModelConfigRequest(name="iris"), "/v2/models/iris/config", "GET"),
        ("model_infer", messages.ModelInferRequest(model_name="iris"), "/v2/models/iris/infer", "POST"),
        ("model_statistics", messages.ModelStatisticsRequest(name="iris"), "/v2/models/iris/stats", "GET"),
        ("model_statistics", messages.ModelStatisticsRequest(), "/v2/models/stats", "GET"),
        ("repository_index", messages.RepositoryIndexRequest(), "/v2/repository/index", "POST"),
    ],
)
async def test_a_caller_without_a_key_is_refused_and_counted_alike(
    here: Gateway, method: str, request_: Any, path: str, verb: str
) -> None:
    answer = await here.http.request(verb, path)
    assert here.dispatcher.refusals["unauthorized"] == 1
    with pytest.raises(Unauthorized) as refused:
        await getattr(over_grpc(here), method)(request_, STRANGER)
    assert here.dispatcher.refusals["unauthorized"] == 2
    assert answer.json()["error"] == str(refused.value)


async def test_a_model_that_is_not_there_is_told_alike(here: Gateway) -> None:
    rest = await here.http.get("/v2/models/iriss", headers=KEYED)
    with pytest.raises(NotFound) as refused:
        await over_grpc(here).model_metadata(messages.ModelMetadataRequest(name="iriss"), CALLER)
    error: PrismError = refused.value
    assert rest.json()["error"] == str(error)


async def test_over_grpc_a_bad_candidate_is_rescued_and_named_in_the_trailing_metadata(
    here: Gateway, tmp_path: Path
) -> None:
    contents = messages.InferTensorContents(fp64_contents=[5.1, 3.5, 1.4, 0.2])
    tensor = messages.ModelInferRequest.InferInputTensor(name="input", datatype="FP64", shape=[1, 4], contents=contents)
    ask = messages.ModelInferRequest(model_name="iris", inputs=[tensor])
    async with fake_replica(tmp_path / "bad", answering(problem(500))) as bad:
        versions = [
            structs.replace(version, replicas=(bad.replica,)) if version.model_id == "m2" else version
            for version in here.state.deployments()
        ]
        route = Route((Arm("m1", 0.0), Arm("m2", 1.0)), canary=Canary("m1", "m2"), rollout_id="r1")
        await here.dispatcher.publish(route_table(versions, splits={"iris": route}))
        answer = await over_grpc(here).model_infer(ask, CALLER)
    assert answer.message.model_version == "1.0.0"
    assert answer.trailing["x-model-version"] == "1.0.0"
    assert answer.trailing["x-prism-rescued"] == "1.1.0"
    assert [incident.request_id for incident in here.dispatcher.evidence("iris").incidents] == [CALLER.request_id]
