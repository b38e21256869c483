"""Guesses of an admin key, against a real server."""

from __future__ import annotations

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from app.access.throttle import ATTEMPTS
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, free_port, problem

OWNER = {"X-API-Key": "owner"}


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(PRISM_TARGET="process", PRISM_ADMIN_KEYS="owner", PRISM_API_KEYS="caller")


def guess(server: Server) -> None:
    for number in range(ATTEMPTS):
        refused = server.http.post("/keys", json={"name": "mine"}, headers={"Authorization": f"Bearer guess-{number}"})
        assert problem(refused)["status"] == 401


def ask(server: Server, key: str) -> int:
    return server.http.post("/models/none/predict", json={}, headers={"X-API-Key": key}).status_code


def test_an_address_that_guesses_is_heard_no_more_not_even_when_it_is_right(server: Server) -> None:
    assert ask(server, "caller") == 404
    entered = server.http.post("/login", data={"key": "owner"}, headers={"Origin": server.url})
    session = dict(entered.cookies)
    server.http.cookies.clear()
    guess(server)

    for key in ("guess-again", "owner", "caller"):
        refused = server.http.get("/models", headers={"X-API-Key": key})
        assert problem(refused)["code"] == "rate_limited"
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60

    assert server.http.get("/models").status_code == 401
    assert server.http.get("/health", headers=OWNER).status_code == 200
    assert ask(server, "caller") == 404  # as before: it was in use here
    assert ask(server, "owner") == 429
    server.http.cookies.update(session)
    assert server.http.get("/models").status_code == 200


def test_guesses_at_predictions_are_bounded_too_and_shut_nobody_out_who_is_in(server: Server) -> None:
    """A head that is remembered lets in nobody without a look at the key, also on a connection that was open before."""
    assert [ask(server, "caller") for _ in range(3)] == [404] * 3
    assert [ask(server, f"guess-{number}") for number in range(ATTEMPTS)] == [401] * ATTEMPTS
    assert ask(server, "guess-again") == 429
    assert ask(server, "owner") == 429
    assert ask(server, "caller") == 404


def test_a_valid_key_that_may_do_less_is_no_guess(server: Server) -> None:
    for _ in range(2 * ATTEMPTS):
        assert server.http.post("/keys", json={"name": "mine"}, headers={"X-API-Key": "caller"}).status_code == 403
    assert server.http.get("/keys", headers=OWNER).status_code == 200


@pytest.fixture
def grpc_url(start_server: StartServer) -> tuple[Server, str]:
    port = free_port()
    return start_server(PRISM_TARGET="process", PRISM_ADMIN_KEYS="owner", PRISM_GRPC_PORT=port), f"127.0.0.1:{port}"


def test_guesses_over_grpc_and_http_count_together(grpc_url: tuple[Server, str]) -> None:
    server, url = grpc_url
    guess(server)
    client = triton.InferenceServerClient(url)
    try:
        with pytest.raises(InferenceServerException) as refused:
            client.unload_model("none", headers={"x-api-key": "owner"})
    finally:
        client.close()
    assert refused.value.status() == str(grpc.StatusCode.RESOURCE_EXHAUSTED)
