"""The listener that a tunnel reaches, over real sockets: two models live, one of them is shared."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from app.access.keys import Keys
from app.access.rate_limit import RateLimiter
from app.core.environment import Lock
from app.core.model import Artifact, Deployment, ModelVersion, Status
from app.core.signature import Signature, Tensor
from app.dispatch.pipeline import Dispatcher
from app.lifecycle.state import DeploymentState
from app.public.surface import PublicSurface
from app.registry.containers import ContainersFile
from app.registry.models import ModelStore
from tests.fakes import FakeReplica, eventually
from tests.records import model_version
from tests.unit.dispatch.doors import FLOW, Answer, ask, connected, request

KEY = "X-API-Key: made"
ADMIN = "X-API-Key: admin"
ANYWHERE = "frisky-fox.ngrok.example"


@dataclass
class Place:
    """shared: the replica of the model `iris`, which is shared. secret: that of the one which is not."""

    surface: PublicSurface
    port: int
    keys: Keys
    state: DeploymentState
    registry: ContainersFile
    dispatcher: Dispatcher
    shared: FakeReplica
    secret: FakeReplica

    async def publish(self) -> None:
        await self.dispatcher.publish(self.state.route_table())


def record(model_id: str, name: str, version: str = "1.0.0") -> ModelVersion:
    return model_version(
        model_id,
        name,
        version,
        Artifact("secret-file.pkl", "0" * 64, 1),
        "2026",
        description="What it is for.",
        lock=Lock("3.11", "secret-package==1"),
        signature=Signature("table", (Tensor("age", "FP64", (-1, 1)),)),
        sample={"age": 41},
    )


@asynccontextmanager
async def place(folder: Path, *, rate_limit: int = 0) -> AsyncIterator[Place]:
    store, registry = ModelStore(folder / "models"), ContainersFile(folder / "containers.json")
    state = DeploymentState(store, registry)
    replicas = {"m1": FakeReplica(folder / "1.sock"), "m2": FakeReplica(folder / "2.sock")}
    for name, (model_id, replica) in zip(("iris", "secret"), replicas.items(), strict=True):
        await replica.start()
        await store.save(record(model_id, name))
        running = structs.replace(replica.replica, model_id=model_id)
        await registry.save(
            Deployment(model_id, name, "1.0.0", Status.LIVE, True, "process", (running,), live_at="2026")
        )
    keys = Keys([], ["admin"])
    keys.add("key_1", hashlib.sha256(b"made").hexdigest())
    dispatcher = Dispatcher(RateLimiter(rate_limit, 3600), FLOW, lambda *_: None)
    surface = PublicSurface(
        state,
        dispatcher,
        keys,
        max_body_bytes=1 << 16,
        receive_timeout_seconds=20,
        keep_alive_seconds=20,
        drain_timeout_seconds=20,
    )
    surface.share("iris")
    there = Place(surface, await surface.open(), keys, state, registry, dispatcher, replicas["m1"], replicas["m2"])
    await there.publish()
    try:
        yield there
    finally:
        await surface.close()
        await dispatcher.close()
        for replica in replicas.values():
            await replica.die()


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path) as there:
        yield there


def get(path: str, *lines: str, host: str = ANYWHERE) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


@pytest.mark.parametrize("ref", ["iris", "iris@1.0.0", "m1"])
@pytest.mark.parametrize(
    "lines", [(KEY,), ("Authorization: Bearer made",), (ADMIN,), (KEY, "Origin: https://a.example")]
)
async def test_a_shared_model_answers_under_each_of_its_references(
    here: Place, ref: str, lines: tuple[str, ...]
) -> None:
    answer = await ask(here.port, request(b"[1]", *lines, path=f"/models/{ref}/predict", host=ANYWHERE))
    assert answer.echoed == [1]
    assert not {name for name in answer.headers if name.startswith(("set-cookie", "access-control"))}


@pytest.mark.parametrize("lines", [(), ("X-API-Key: wrong",), ("Cookie: prism_session=made",), ("X-API-Key: ",)])
@pytest.mark.parametrize("ref", ["iris", "secret", "nobody"])
async def test_without_a_valid_key_no_model_is_revealed(here: Place, ref: str, lines: tuple[str, ...]) -> None:
    for sent in (request(b"[1]", *lines, path=f"/models/{ref}/predict"), get(f"/models/{ref}", *lines)):
        answer = await ask(here.port, sent)
        assert answer.status == 401
        assert answer.problem["detail"] in ("No API key was sent.", "The API key is not valid for this server.")
    assert here.shared.batches == here.secret.batches == []


async def test_with_consent_a_key_is_not_needed_until_the_consent_is_withdrawn(here: Place) -> None:
    sent = request(b"[1]", host=ANYWHERE)
    async with connected(here.port) as client:
        for consent, status in ((True, 200), (True, 200), (False, 401), (True, 200)):
            here.surface.open_to_all = consent
            await client.send(sent)
            assert (await client.answer()).status == status
    assert (await ask(here.port, request(b"[1]", path="/models/secret/predict"))).status == 404


async def test_an_unshared_model_gets_the_same_answer_as_a_missing_one(here: Place) -> None:
    for form in (
        lambda ref: request(b"[1]", KEY, path=f"/models/{ref}/predict"),
        lambda ref: request(b"[1]", KEY, "X-Odd: 1", path=f"/models/{ref}/predict"),
        lambda ref: get(f"/models/{ref}", KEY),
    ):
        said = [(await ask(here.port, form(ref))) for ref in ("secret", "m2", "secret@1.0.0", "secres", "m9", "iri")]
        assert {answer.status for answer in said} == {404}
        assert len({re.sub("`.*?`", "", answer.problem["detail"]) for answer in said}) == 1
        assert all("iris" not in json.dumps(answer.problem) for answer in said)
    assert here.secret.batches == []


async def test_the_owners_next_steps_are_not_revealed_for_a_stopped_model(here: Place) -> None:
    stopped = structs.replace(here.state.deployment("m1"), status=Status.STOPPED, wanted=False, replicas=())
    await here.registry.save(stopped)
    await here.publish()
    for lines in ((KEY,), (KEY, "X-Odd: 1")):
        answer = await ask(here.port, request(b"[1]", *lines))
        assert answer.status == 409
        assert "/start" not in answer.body.decode()
    assert json.loads((await ask(here.port, get("/health"))).body) == {"status": "degraded"}


async def test_a_cached_head_of_a_removed_model_reaches_no_other_model(here: Place) -> None:
    sent = request(b"[1]", KEY)
    async with connected(here.port) as client:
        await client.send(sent)
        assert (await client.answer()).status == 200
        await here.state.remove("m1")
        await here.publish()
        await client.send(sent)
        answer = await client.answer()
    assert answer.status == 404
    here.surface.share("secrets")  # of a model that is gone; `secret` is the nearest name that there is
    for path in ("/models/secrets/predict", "/models/secrets@2.0.0/predict"):
        nearest = await ask(here.port, request(b"[1]", KEY, path=path))
        assert nearest.status == 404
        assert "`secret`" not in nearest.body.decode()


async def test_public_metadata_reveal_how_to_call_a_model_but_not_how_it_is_built_or_where_it_runs(here: Place) -> None:
    document = json.loads((await ask(here.port, get("/models/m1", KEY))).body)
    assert document == {
        "name": "iris",
        "version": "1.0.0",
        "description": "What it is for.",
        "endpoint": "/models/iris/predict",
        "signature": json.loads(json.dumps(document["signature"])),
        "sample": {"age": 41},
    }
    assert document["signature"]["inputs"][0]["name"] == "age"
    assert "secret" not in json.dumps(document)


async def test_public_health_is_one_word_about_the_shared_models(here: Place) -> None:
    down = structs.replace(here.state.deployment("m2"), status=Status.FAILED, replicas=())
    await here.registry.save(down)
    answer = await ask(here.port, get("/health"))
    assert json.loads(answer.body) == {"status": "ok"}
    assert "set-cookie" not in answer.headers


async def test_a_revoked_key_is_refused_on_its_next_request_on_an_open_connection(here: Place) -> None:
    for lines in ((KEY,), (KEY, "X-Odd: 1")):
        here.keys.add("key_1", hashlib.sha256(b"made").hexdigest())
        async with connected(here.port) as client:
            for _ in range(2):
                await client.send(request(b"[1]", *lines, host=ANYWHERE))
                assert (await client.answer()).status == 200
            here.keys.remove("key_1")
            await client.send(request(b"[1]", *lines, host=ANYWHERE))
            assert (await client.answer()).status == 401


async def test_a_withdrawn_model_is_gone_from_the_next_request_on_an_open_connection(here: Place) -> None:
    async with connected(here.port) as client:
        for _ in range(2):
            await client.send(request(b"[1]", KEY))
            assert (await client.answer()).status == 200
        here.surface.unshare("iris")
        await client.send(request(b"[1]", KEY))
        assert (await client.answer()).status == 404
        here.surface.share("iris")
        await client.send(request(b"[1]", KEY))
        assert (await client.answer()).status == 200


async def test_callers_without_a_key_share_an_allowance_that_is_not_the_local_user_s(tmp_path: Path) -> None:
    async with place(tmp_path, rate_limit=2) as there:
        there.surface.open_to_all = True
        statuses = [(await ask(there.port, request(b"[1]", *odd))).status for odd in ((), ("X-Odd: 1",), (), ("X: 1",))]
        assert statuses == [200, 200, 429, 429]
        assert (await ask(there.port, request(b"[1]", KEY))).status == 200
        forged = request(b"[1]", "X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9")
        assert (await ask(there.port, forged)).status == 429


async def test_it_listens_on_loopback_where_the_port_is_its_own_and_ends_what_is_open_when_it_closes(
    here: Place,
) -> None:
    assert here.surface.port == here.port == await here.surface.open()
    async with connected(here.port) as client:
        await client.send(get("/health"))
        assert (await client.answer()).status == 200
        await here.surface.close()
        assert await client.rest() == []
    assert here.surface.port is None
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", here.port)
    again = await here.surface.open()
    assert (await ask(again, request(b"[1]", KEY))).status == 200
    await here.surface.close()
    await here.surface.close()


async def test_predictions_in_flight_are_answered_before_the_listener_closes(here: Place) -> None:
    release = asyncio.Event()
    answers = here.shared.handler

    async def held(requests: list[Any]) -> list[Any]:
        await release.wait()
        return await answers(requests)

    here.shared.handler = held
    async with connected(here.port) as client:
        await client.send(request(b"[1]", KEY))
        await eventually(lambda: here.shared.batches == [1])
        closing = asyncio.create_task(here.surface.close())
        await asyncio.sleep(0)
        release.set()
        assert (await client.answer()).echoed == [1]
        await closing


async def test_the_protocols_of_others_predict_and_describe_a_shared_model_and_no_other(here: Place) -> None:
    tensor = b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP64", "data": [41]}]}'
    for name, status in (("iris", 200), ("secret", 404), ("nobody", 404)):
        sent = (
            request(tensor, KEY, path=f"/v2/models/{name}/infer"),
            request(tensor, KEY, path=f"/v2/models/{name}/versions/1.0.0/infer"),
            request(b'{"instances": [[41]]}', KEY, path=f"/v1/models/{name}:predict"),
            get(f"/v2/models/{name}", KEY),
            get(f"/v2/models/{name}/ready", KEY),
            get(f"/v1/models/{name}", KEY),
        )
        for one in sent:
            answer = await ask(here.port, one)
            assert answer.status == status, one
            if status == 404:
                assert json.loads(answer.body).keys() == {"error"}
                assert "iris" not in answer.body.decode()
        for one in sent:
            assert (await ask(here.port, one.replace(KEY.encode(), b"X-Odd: 1"))).status == 401
    assert here.secret.batches == []
    said = json.loads((await ask(here.port, get("/v2"))).body)
    assert said["extensions"] == ["binary_tensor_data", "parameters"]


# Whatever is tried ------------------------------------------------------------------------------------------------------


@dataclass
class Laboratory:
    place: Place
    run: Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with capture_logs(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        there = runner.run(stack.enter_async_context(place(tmp_path_factory.mktemp("place"))))
        yield Laboratory(there, runner.run)
        runner.run(stack.aclose())


OURS = (
    "/health",
    "/models/iris",
    "/models/iris/predict",
    "/models/iris@1.0.0/predict",
    "/models/m1",
    "/models/m1/predict",
    "/v2",
    "/v2/health/ready",
    "/v2/models/iris",
    "/v2/models/iris/versions/1.0.0/ready",
    "/v2/models/iris/infer",
    "/v2/models/iris/generate",
    "/v2/models/iris/versions/1.0.0/generate_stream",
    "/v1/models/iris",
    "/v1/models/iris:predict",
)
THEIRS = (
    *(
        "/",
        "/models",
        "/models/secret",
        "/models/m2/predict",
        "/models/secret/predict",
        "/models/iris/logs",
        "/registry",
    ),
    *("/models/iris/stop", "/models/upload-and-run", "/registry/prune-stale", "/registry/m1", "/keys", "/keys/key_1"),
    *("/share", "/metrics", "/docs", "/docs/errors", "/openapi.json", "/static/page.css", "/login", "/logout"),
    *("/v2/models/stats", "/v2/models/iris/config", "/v2/repository/index", "/v2/repository/models/iris/unload"),
    *(
        "/v2/models/secret/infer",
        "/v2/models/secret/generate",
        "/v1/models",
        "/v1/models/secret:predict",
        "/invocations",
        "/available_models",
    ),
    *("/upload-model", "/settings", "/api/upload-and-run-ui", "/models-ui/m1/delete", "/health/monitor", "/model-logs"),
)
ODD = (
    *(
        "/",
        "//",
        "/.",
        "/..",
        "/./",
        "/../",
        "%2f",
        "%2F..%2f",
        "%2e",
        "%2E%2e",
        ";",
        ";a=b",
        "/;/",
        "\\",
        "%5c",
        "..\\",
    ),
    *(
        "%00",
        "%0a",
        "%0d%0a",
        "%20",
        "%09",
        "*",
        "~",
        "%25",
        "%252f",
        "%c0%af",
        "%ff",
        "%",
        "%zz",
        "?",
        "#",
        "@",
        ":",
        "a",
    ),
    *THEIRS,
)
METHODS = (*("GET",) * 4, *("POST",) * 6, "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE")
FORGED = (
    *("X-Original-URL: /registry", "X-Rewrite-URL: /keys", "X-HTTP-Method-Override: DELETE", "X-Method-Override: GET"),
    *("X-Forwarded-Host: 127.0.0.1", "X-Forwarded-Prefix: /registry", "X-Forwarded-Path: /models", "X-Real-IP: ::1"),
    *("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1;host=localhost", "Origin: http://127.0.0.1:8000"),
    *("Accept: text/html", "HX-Request: true", "Cookie: prism_session=x", "Sec-Fetch-Site: same-origin"),
    *("Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade", "Expect: 100-continue", "TE: trailers"),
)
HOSTS = ("127.0.0.1:8000", "localhost", ANYWHERE, "", "evil.example", "[::1]", "admin\tadmin")


@st.composite
def targets(draw: st.DrawFn) -> str:
    """Request targets of this surface and of the other, and what can be made of them."""
    target = draw(st.sampled_from(OURS) | st.sampled_from(THEIRS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(target)))
        kind = draw(st.sampled_from(("insert", "insert", "escape", "case", "cut", "append")))
        if kind == "insert":
            target = target[:at] + draw(st.sampled_from(ODD)) + target[at:]
        elif kind == "escape" and at < len(target):
            target = f"{target[:at]}%{ord(target[at]):02x}{target[at + 1 :]}"
        elif kind == "case":
            target = target[:at] + target[at:].swapcase()
        elif kind == "cut":
            target = target[:at] + target[at + 1 :]
        else:
            target += draw(st.sampled_from(ODD))
    query = draw(st.sampled_from(("", "", "", "?x=/registry", "?probabilities=true", "?probabilities=x")))
    return (
        draw(st.sampled_from(("", "", "", "http://127.0.0.1:8000", "HTTP://localhost", "//evil.example")))
        + target
        + query
    )


@st.composite
def attempts(draw: st.DrawFn) -> tuple[str, str, bytes]:
    method, target = draw(st.sampled_from(METHODS)), draw(targets())
    lines = [
        draw(st.sampled_from((KEY, ADMIN, "Authorization: Bearer admin"))),
        *draw(st.sets(st.sampled_from(FORGED))),
    ]
    head = [f"{method} {target} HTTP/{draw(st.sampled_from(('1.1', '1.1', '1.0')))}"]
    head += [f"Host: {host}" for host in draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2))]
    body = draw(st.sampled_from((b"[1]", b"[1]", b"", b'{"name": "x"}')))
    head += ["Content-Type: application/json", *lines, f"Content-Length: {len(body)}", "", ""]
    return method, target, "\r\n".join(head).encode() + body


def answerable(method: str, target: str) -> bool:
    """Whether this surface has an answer for it: by the target as it stands, not as anybody might read it."""
    path = re.sub(r"^(?i:http)://[^/]*", "", target).partition("?")[0].partition("#")[0]
    if method == "GET" and path in ("/health", "/v2", "/v2/health/ready"):
        return True
    parts = path.split("/")
    protocol = parts.pop(1) if parts[1:2] in (["v1"], ["v2"]) else ""
    if len(parts) < 3 or parts[:2] != ["", "models"]:
        return False
    name, rest = unquote(parts[2]), parts[3:]
    if protocol == "v2" and rest[:2] == ["versions", "1.0.0"] and name == "iris":
        rest = rest[2:]
    if protocol == "v1" and method == "POST":
        name, _, verb = name.rpartition(":")
        rest = [verb]
    tritons = (["infer"], ["generate"], ["generate_stream"])
    ways = {"": ([], ["predict"]), "v1": ([], ["predict"]), "v2": ([], *tritons)}[protocol]
    is_metadata = method == "GET" and (rest == ways[0] or (protocol == "v2" and rest == ["ready"]))
    return name in ("iris", "iris@1.0.0", "m1") and (is_metadata or (method == "POST" and rest in ways[1:]))


@settings(max_examples=600, deadline=None, database=None)
@given(attempt=attempts())
def test_no_admin_route_is_reachable_in_any_spelling(lab: Laboratory, attempt: tuple[str, str, bytes]) -> None:
    method, target, sent = attempt
    answer = lab.run(first_answer(lab.place.port, sent))
    if answer.status == 200:
        assert answerable(method, target)
        assert answer.body.startswith(
            (
                b'{"status":',
                b'{"name":"iris"',
                b'{"model":"iris"',
                b'{"predictions":',
                b'{"name":"PRISM"',
                b'{"live":true',
            )
        ), answer.body
    elif answer.status == 503:  # the stand-in for a replica has no streams
        assert answerable(method, target)
        assert b"without streams" in answer.body
    else:
        assert answer.status in range(400, 500), answer.body
        if answer.headers["content-type"] != "application/problem+json":
            assert json.loads(answer.body).keys() in ({"error"}, {"error_code", "message"})
    assert not {name for name in answer.headers if name.startswith(("set-cookie", "access-control", "location", "hx-"))}
    assert lab.place.secret.batches == []


async def first_answer(port: int, sent: bytes) -> Answer:
    async with connected(port) as client:
        await client.send(sent)
        answer = await client.answer()
        return answer if answer.status != 100 else await client.answer()


@settings(max_examples=50, deadline=None, database=None)
@given(forged=st.sets(st.sampled_from(FORGED)))
def test_plain_requests_are_answered_with_any_proxy_headers(lab: Laboratory, forged: set[str]) -> None:
    """What is refused above is refused for what it is, and not because nothing at all is answered."""
    forged = {line for line in forged if not line.startswith(("Upgrade", "Connection", "Expect"))}
    infer = request(b"[1]", KEY, *forged, path="/v2/models/iris/infer")
    predict = request(b"[1]", KEY, *forged, path="/v1/models/iris:predict")
    known = (get("/health", *forged), get("/models/iris", KEY, *forged), get("/v2/models/iris", KEY, *forged))
    for plain in (*known, request(b"[1]", KEY, *forged), infer, predict):
        assert lab.run(first_answer(lab.place.port, plain)).status == 200


@pytest.mark.parametrize("path", [*OURS, *THEIRS])
async def test_head_and_options_are_not_supported(here: Place, path: str) -> None:
    for method in ("HEAD", "OPTIONS"):
        async with connected(here.port) as client:
            await client.send(request(b"", ADMIN, "Connection: close", path=path, method=method))
            (answer,) = await client.rest()
        assert answer.status in (404, 405)
