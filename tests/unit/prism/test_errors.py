from __future__ import annotations

from collections.abc import Iterator

import pytest

import app.errors as server_errors
from prism import errors


def tree(kind: type[server_errors.PrismError]) -> Iterator[type[server_errors.PrismError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


SERVER_ERRORS = [kind for kind in tree(server_errors.PrismError) if kind.__module__ == "app.errors"]


@pytest.mark.parametrize("kind", SERVER_ERRORS, ids=lambda kind: kind.code)
def test_every_error_of_the_server_has_a_class_of_its_own_with_the_same_parents(
    kind: type[server_errors.PrismError],
) -> None:
    mine = errors.error_class(kind.code, 0)
    assert kind.code in mine.codes
    parents = [parent.code for parent in kind.__mro__[1:] if issubclass(parent, server_errors.PrismError)]
    for code in parents:
        if code != "internal_error":
            assert issubclass(mine, errors.error_class(code, 0))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (413, errors.TooLargeError),
        (415, errors.UnsupportedFormatError),
        (418, errors.APIError),
        (422, errors.APIError),
        (429, errors.RateLimitedError),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (503, errors.UnavailableError),
        (504, errors.ReplicaTimeoutError),
    ],
)
def test_a_problem_of_unknown_code_is_classed_by_its_status(status: int, expected: type[errors.APIError]) -> None:
    assert type(errors.from_problem({"code": "brand_new"}, status=status)) is expected


def test_an_error_carries_all_that_the_problem_says() -> None:
    document = {"status": 422, "code": "build_failed", "detail": "No.", "hint": "Retry.", "model_id": "m1", "lock": "x"}
    error = errors.from_problem(document, status=200, request_id="r1")
    assert isinstance(error, errors.DeployFailedError)
    assert (error.status, error.code, error.hint, error.request_id) == (422, "build_failed", "Retry.", "r1")
    assert error.model_id == "m1"
    assert error.document["lock"] == "x"
    assert str(error) == "No. Retry."
    assert error.problem() == {**document, "request_id": "r1"}
