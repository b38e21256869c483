"""The gateway and an image that runs by itself tell clients of other protocols the same of a problem."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from app.protocols.error_forms import ERROR_FORMS
from model_container.bodies.problems import Problem
from model_container.server.http_answers import told_problem

PATHS = ("/invocations", "/ping", "/version", "/v1/models/iris:predict", "/v2/models/iris/infer")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("status", [one for one in HTTPStatus if one >= 400])
def test_a_problem_reads_the_same_from_the_gateway_and_from_an_image(status: HTTPStatus, path: str) -> None:
    problem = Problem(status.value, "code", "What happened.", "What to do.")
    gateway, content_type = ERROR_FORMS.form(path)(
        {"status": status.value, "detail": problem.detail, "hint": problem.hint}
    )
    image = told_problem(path, problem)
    assert (json.loads(image.body), image.content_type, image.status) == (gateway, content_type, status)


def test_the_codes_of_mlflow_are_those_of_its_scoring_server() -> None:
    codes = {
        status: ERROR_FORMS.form("/invocations")({"status": status, "detail": ""})[0]["error_code"]
        for status in (422, 503)
    }
    assert codes == {422: "INVALID_PARAMETER_VALUE", 503: "TEMPORARILY_UNAVAILABLE"}
