from __future__ import annotations

import httpx2
import pytest
from fastapi import FastAPI, Request

from app.access.hosts import HostAllowList
from app.error_shapes import ErrorForms
from app.http import problems
from app.http.guard import HostOriginMiddleware, api_key


def client(
    hosts: list[str] | None = None, listener: str = "127.0.0.1", *, only_here: bool = False
) -> httpx2.AsyncClient:
    app = FastAPI()
    problems.install(app, ErrorForms({}))

    @app.get("/")
    async def root(request: Request) -> str:
        return api_key(request.headers)

    app.add_middleware(HostOriginMiddleware, hosts=HostAllowList(hosts or []), only_here=only_here)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=f"http://{listener}:8000")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "192.168.1.7", "LOCALHOST"])
async def test_addresses_and_localhost_name_this_server(host: str) -> None:
    async with client() as http:
        assert (await http.get("/", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"])
async def test_a_rebound_name_is_refused(host: str) -> None:
    async with client() as http:
        answer = await http.get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "PRISM_ALLOWED_HOSTS" in answer.json()["hint"]


async def test_an_allowed_name_is_let_in() -> None:
    async with client(["Models.example"]) as http:
        assert (await http.get("/", headers={"Host": "models.example"})).status_code == 200


@pytest.mark.parametrize("listener", ["192.168.1.7", "[fe80::1]", "0.0.0.0"])
async def test_a_local_server_refuses_requests_to_an_address_that_others_can_reach(listener: str) -> None:
    async with client(listener=listener, only_here=True) as http:
        answer = await http.get("/", headers={"Host": "127.0.0.1:8000"})
    assert answer.status_code == 403
    assert "PRISM_ADMIN_KEYS" in answer.json()["hint"]
    async with client(listener=listener) as http:
        assert (await http.get("/")).status_code == 200


@pytest.mark.parametrize("listener", ["127.0.0.1", "[::1]", "localhost"])
async def test_a_server_for_this_machine_answers_at_loopback(listener: str) -> None:
    async with client(listener=listener, only_here=True) as http:
        assert (await http.get("/")).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8000"])
async def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    async with client() as http:
        assert (await http.get("/", headers={"Origin": origin})).status_code == 403


async def test_the_own_origin_is_let_in() -> None:
    async with client() as http:
        assert (await http.get("/", headers={"Origin": "http://127.0.0.1:8000"})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"X-API-Key": "k"}, "k"),
        ({"Authorization": "Bearer k"}, "k"),
        ({"Authorization": "bearer  k"}, "k"),
        ({"Authorization": "Basic k"}, ""),
        ({}, ""),
    ],
)
async def test_a_key_is_taken_from_either_header(headers: dict[str, str], key: str) -> None:
    async with client() as http:
        assert (await http.get("/", headers=headers)).json() == key


async def test_every_answer_has_a_request_id_and_a_sane_given_one_is_kept() -> None:
    async with client() as http:
        assert len((await http.get("/")).headers["x-request-id"]) == 16
        assert (await http.get("/", headers={"X-Request-ID": "abc-1"})).headers["x-request-id"] == "abc-1"
        assert (await http.get("/", headers={"X-Request-ID": "a b\tc"})).headers["x-request-id"] != "a b\tc"
