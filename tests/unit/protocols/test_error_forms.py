"""The form of an error is that of the protocol whose path it is, also where two protocols share a beginning."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI

from app.access.admission import Admission
from app.access.keys import Keys
from app.access.throttle import FailedKeyThrottle
from app.error_shapes import ErrorForm, ErrorForms, inference_error, mlflow_error, native_error
from app.errors import BadInput
from app.protocols import v1, v1_models
from app.protocols.error_forms import ERROR_FORMS
from app.protocols.handler import InferenceHandler
from model_container.adapters.estimator import EstimatorAdapter
from tests.unit.dispatch import doors
from tests.unit.protocols.gateway import MAX_BODY_BYTES, Gateway, gateway

CHAT = "/v1/chat/completions"


def chat_error(problem: dict[str, Any]) -> tuple[dict[str, Any], str]:
    return {"error": {"message": problem["detail"], "code": problem["code"]}}, "application/json"


FORMS = ErrorForms({**v1.ERRORS, CHAT: chat_error})


def chat_router() -> APIRouter:
    routes = APIRouter()

    @routes.post(CHAT)
    async def complete() -> None:
        raise BadInput("There is no provider.")

    return routes


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1", inference_error),
        ("/v1/", inference_error),
        ("/v1/models/iris:predict", inference_error),
        ("/v1/a\nb", inference_error),
        ("/v2/models/iris/infer", inference_error),
        ("/models/iris/invocations", mlflow_error),
        ("/models/a/b/invocations", native_error),
        ("/ping", mlflow_error),
        ("/ping/", native_error),
        ("/ping\n", native_error),
        ("/v1x", native_error),
        ("/V1/models", native_error),
        ("/", native_error),
        ("", native_error),
    ],
)
def test_each_protocol_has_its_paths(path: str, form: ErrorForm) -> None:
    assert ERROR_FORMS.form(path) is form


@pytest.mark.parametrize("declared", [(CHAT, "/v1/**"), ("/v1/**", CHAT)])
def test_the_longest_declared_path_decides_whatever_the_order(declared: tuple[str, str]) -> None:
    forms = ErrorForms({path: {CHAT: chat_error, "/v1/**": inference_error}[path] for path in declared})
    assert [forms.form(path) for path in (CHAT, f"{CHAT}/1", "/v1/chat", "/v1")] == [chat_error, *[inference_error] * 3]


@pytest.mark.parametrize(
    ("method", "headers", "content", "status", "code"),
    [
        ("POST", {}, b"{}", 400, "bad_input"),
        ("GET", {}, b"", 405, "method_not_allowed"),
        ("POST", {}, bytes(MAX_BODY_BYTES + 1), 413, "too_large"),
        ("POST", {"Host": "evil.example"}, b"{}", 403, "forbidden"),
        ("POST", {"Origin": "http://evil.example"}, b"{}", 403, "forbidden"),
    ],
)
async def test_two_protocols_below_v1_keep_their_forms_in_one_application(
    tmp_path: Path, iris: Any, method: str, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    async with gateway(tmp_path, EstimatorAdapter(iris), error_forms=FORMS) as here:
        here.app.include_router(chat_router())
        for path, members in ((CHAT, {"message", "code"}), ("/v1/models/nothing:predict", None)):
            answer = await here.http.request(method, path, headers=headers, content=content)
            assert answer.headers["content-type"] == "application/json"
            error = answer.json()["error"]
            if members is None:
                assert isinstance(error, str)
            else:
                assert (error.keys(), error["code"], answer.status_code) == (members, code, status)


async def test_a_refusal_at_the_protocol_has_the_form_of_its_path(tmp_path: Path) -> None:
    async with doors.gateway(tmp_path, error_forms=FORMS) as both:
        long = "X-Long: " + "a" * (1 << 16)
        chat, v1_error, native = [
            json.loads((await doors.ask(both.protocol, doors.request(b"{}", long, path=path))).body)
            for path in (CHAT, "/v1/models/iris:predict", "/models/iris/predict")
        ]
        assert chat["error"]["code"] == native["code"] == "head_too_large"
        assert v1_error == {"error": f"{native['detail']} {native['hint']}"}


async def test_the_list_of_models_has_the_members_of_every_protocol(here: Gateway) -> None:
    assert (await here.http.get("/v1/models")).content == b'{"models":["iris"]}'
    admission = Admission(Keys(), lambda: False, lambda host: True, FailedKeyThrottle())
    asking = InferenceHandler(here.dispatcher, admission, MAX_BODY_BYTES)
    app = FastAPI()
    app.include_router(v1_models.router(asking, partial(v1.listed_models, asking), lambda: {"object": "list"}))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as http:
        assert (await http.get("/v1/models")).json() == {"models": ["iris"], "object": "list"}
