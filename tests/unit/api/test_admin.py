"""Who may do what on the main listener: keys, sessions and pages, on the whole application."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Mount
from structlog.testing import capture_logs

from app.access.sessions import LIFETIME_SECONDS
from app.main import create_app
from app.runtime.doctor import disk
from app.runtime.targets import TARGETS
from app.settings import Settings
from app.ui.routes.login import ATTEMPTS
from tests.fakes import FakeTarget, resolve

HERE = "http://127.0.0.1:8000"
OPEN = {
    *{
        ("GET", path)
        for path in ("/", "/health", "/health/monitor", "/docs", "/docs/errors", "/openapi.json", "/login")
    },
    *{("GET", path) for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/ping", "/version")},
    ("POST", "/logout"),
}
FOR_ANY_KEY = re.compile(
    r"GET /(api/v1/)?(models(/x(/(openapi\.json|versions|diff))?)?|registry(/x)?|metrics)|GET /available_models"
    r"|POST /(models/x/(predict|invocations)|invocations|predict/x(/batch)?|predict_batched/x)"
    r"|POST /(api/v1/)?feedback"
    r"|(GET|POST) /v[12]/models.*|POST /v2/repository/index"
)
REFUSED = {401, 403}
MADE: list[FastAPI] = []


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture(autouse=True)
async def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What a route has set going, such as the deployment of the sample, ends before the loop does."""
    monkeypatch.setitem(TARGETS, "process", lambda _: FakeTarget(tmp_path))
    monkeypatch.setattr("app.gateway.LockCache.resolve", resolve)
    monkeypatch.setattr("app.runtime.doctor.EXAMINATIONS", (disk,))  # the others take seconds, for every caller tried
    yield
    while MADE:
        system = MADE.pop().state.system
        await system.deployments.shut_down(keep_models=False)
        await system.catalog.close()


def application(folder: Path, **settings: Any) -> FastAPI:
    MADE.append(create_app(Settings(home=folder, target="process", **settings)))
    return MADE[-1]


@asynccontextmanager
async def browser(app: FastAPI, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=HERE, headers=headers) as http:
        yield http


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every method and path that the application knows, with `x` for what varies; but for where keys are tried."""

    def below(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
        for route in found:
            for method in getattr(route, "methods", None) or ():
                yield method, prefix + re.sub(r"{\w+}", "x", route.path)
            yield from below(getattr(getattr(route, "original_router", None), "routes", ()), prefix)
            if isinstance(route, Mount) and isinstance(route.app, APIRouter):
                yield from below(route.app.routes, prefix + route.path)

    return {(method, path) for method, path in below(app.routes) if method != "HEAD"} - {("POST", "/login")}


def for_admins(app: FastAPI) -> set[tuple[str, str]]:
    return {one for one in routes(app) - OPEN if not FOR_ANY_KEY.fullmatch(" ".join(one))}


async def made_key(app: FastAPI, **headers: str) -> str:
    async with browser(app, **headers) as http:
        answer = await http.post("/keys", json={"name": "made"})
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    return key


async def statuses(app: FastAPI, **headers: str) -> dict[tuple[str, str], int]:
    async with browser(app, **headers) as http:
        return {one: (await http.request(*one)).status_code for one in sorted(routes(app))}


async def test_with_admin_keys_each_route_is_open_to_the_roles_of_the_security_page(tmp_path: Path) -> None:
    app = application(tmp_path, api_keys="api", admin_keys="admin, admin-2")
    everything = routes(app)
    assert ("GET", "/api/v1/keys") in everything
    assert everything >= OPEN | {("POST", "/models/x/predict"), ("GET", "/metrics"), ("GET", "/settings")}
    for headers in ({}, {"X-API-Key": "wrong"}):
        refused = {one for one, status in (await statuses(app, **headers)).items() if status == 401}
        assert refused == everything - OPEN
    made = await made_key(app, **{"X-API-Key": "admin"})
    for key in ("api", made):
        refused = {one for one, status in (await statuses(app, **{"X-API-Key": key})).items() if status in REFUSED}
        assert refused == for_admins(app)
    for headers in ({"X-API-Key": "admin"}, {"Authorization": "Bearer admin-2"}):
        assert not REFUSED & set((await statuses(app, **headers)).values())


async def test_without_admin_keys_api_keys_of_the_settings_are_admin_keys_but_created_keys_are_not(
    tmp_path: Path,
) -> None:
    app = application(tmp_path, api_keys="api")
    assert not REFUSED & set((await statuses(app, **{"X-API-Key": "api"})).values())
    made = await made_key(app, **{"X-API-Key": "api"})
    refused = {one for one, status in (await statuses(app, **{"X-API-Key": made})).items() if status in REFUSED}
    assert refused == for_admins(app)


async def test_without_any_key_everything_is_open_even_after_a_key_is_created(tmp_path: Path) -> None:
    app = application(tmp_path)
    made = await made_key(app)
    for headers in ({}, {"X-API-Key": made}, {"X-API-Key": "any"}):
        assert not REFUSED & set((await statuses(app, **headers)).values())


async def test_a_key_without_permission_gets_403_and_an_unknown_key_gets_401(tmp_path: Path) -> None:
    app = application(tmp_path, api_keys="api", admin_keys="admin")
    async with browser(app) as http:
        forbidden = await http.delete("/models/x", headers={"X-API-Key": "api"})
        unknown = await http.delete("/models/x", headers={"X-API-Key": "wrong"})
    assert (forbidden.status_code, unknown.status_code) == (403, 401)
    assert "PRISM_ADMIN_KEYS" in forbidden.json()["hint"]


async def test_keys_are_listed_without_their_secret_and_revoked_once(tmp_path: Path) -> None:
    app = application(tmp_path)
    key = await made_key(app)
    async with browser(app) as http:
        listed = await http.get("/keys")
        (entry,) = listed.json()["keys"]
        assert entry.keys() == {"id", "name", "created_at", "hint"}
        assert key.endswith(entry["hint"])
        assert key not in listed.text
        assert (await http.delete(f"/keys/{entry['id']}")).json() == {"revoked": entry["id"]}
        assert (await http.delete(f"/keys/{entry['id']}")).status_code == 404
        assert (await http.get("/keys")).json() == {"keys": []}
        for wrong in ({}, {"name": ""}, {"name": "x", "admin": True}, {"name": ["x"]}, []):
            assert (await http.post("/keys", json=wrong)).status_code == 400, wrong


async def test_a_revocation_not_yet_on_disk_is_reported_by_the_answer_the_monitor_and_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = application(tmp_path)
    (tmp_path / "model_store" / "uploads").mkdir(parents=True)
    await made_key(app)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "keys.json"))

    monkeypatch.setattr("app.registry.keys.write_atomic", refuse)
    monkeypatch.setattr(os, "pwrite", refuse)
    async with browser(app) as http:
        (entry,) = (await http.get("/keys")).json()["keys"]
        answer = (await http.delete(f"/keys/{entry['id']}")).json()
        assert (answer["revoked"], answer["saved"]) == (entry["id"], False)
        assert answer["hint"].startswith("Revoked, but not yet on disk: free some space.")
        (unsaved,) = (await http.get("/health/monitor")).json()["unsaved"]
        assert unsaved["what"] == "the API keys"
        assert str(tmp_path) not in str(unsaved)
        page = (await http.get("/settings", headers={"Accept": "text/html"})).text
        assert "Revoked, but not yet on disk" in page
        assert "Not on disk yet: the API keys" in page


# Sessions ---------------------------------------------------------------------------------------------------------------


async def log_in(http: httpx2.AsyncClient, key: str = "admin", back_to: str = "/") -> httpx2.Response:
    return await http.post("/login", data={"key": key, "next": back_to}, headers={"Origin": HERE})


@pytest.mark.parametrize(
    ("settings", "key"), [({"api_keys": "api", "admin_keys": "admin"}, "admin"), ({"api_keys": "api"}, "api")]
)
async def test_who_logged_in_is_an_admin_until_they_log_out(tmp_path: Path, settings: dict[str, str], key: str) -> None:
    app = application(tmp_path, **settings)
    async with browser(app, Accept="text/html") as http:
        assert (await http.get("/login")).status_code == 200
        answer = await log_in(http, key, "/settings?tab=keys")
        assert (answer.status_code, answer.headers["location"]) == (303, "/settings?tab=keys")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={LIFETIME_SECONDS}"} <= set(cookie.split("; "))
        assert key not in cookie
        assert (await http.get("/login?next=/upload-model")).headers["location"] == "/upload-model"
        page = await http.get("/")
        assert page.status_code == 200
        assert 'action="/logout"' in page.text
        kept = dict(http.cookies)
        made = await http.post("/keys", json={"name": "x"}, headers={"Origin": HERE})
        assert made.status_code == 201
        out = await http.post("/logout", headers={"Origin": HERE})
        assert (out.status_code, out.headers["location"]) == (303, "/login")
        assert not dict(http.cookies)
        http.cookies.update(kept)
        assert (await http.get("/keys", headers={"Accept": "*/*"})).status_code == 401


@pytest.mark.parametrize("key", ["", "wrong", "api", "admin1", "\udce9", "a" * 100_000])
async def test_any_other_key_gets_the_page_again_with_the_error_at_its_field(tmp_path: Path, key: str) -> None:
    app = application(tmp_path, api_keys="api", admin_keys="admin")
    async with browser(app) as http:
        answer = await http.post(
            "/login",
            content=b"key=" + key.encode(errors="surrogateescape") + b"&next=/settings",
            headers={"Origin": HERE},
        )
    assert answer.status_code == 401
    assert 'aria-invalid="true"' in answer.text
    assert 'id="key-error"' in answer.text
    assert 'value="/settings"' in answer.text
    assert "set-cookie" not in answer.headers
    assert f'value="{key}"' not in answer.text


async def test_after_too_many_guesses_even_the_right_key_is_refused(tmp_path: Path) -> None:
    app = application(tmp_path, admin_keys="admin")
    async with browser(app) as http:
        assert {(await log_in(http, f"guess {number}")).status_code for number in range(ATTEMPTS)} == {401}
        answer = await log_in(http)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert 'id="key-error"' in answer.text
    assert "set-cookie" not in answer.headers


async def test_a_browser_is_led_to_the_login_and_back(tmp_path: Path) -> None:
    app = application(tmp_path, admin_keys="admin")
    async with browser(app, Accept="text/html,*/*") as http:
        for path in ("/", "/settings", "/model?model_id=x&tab=%C3%A9%26", "/models/a%20b", "/metrics"):
            answer = await http.get(path)
            assert answer.status_code == 303
            login = await http.get(answer.headers["location"])
            assert login.status_code == 200
            assert f'name="next" value="{path.replace("&", "&amp;")}"' in login.text
        assert (await http.post("/deploy-sample")).status_code == 401
        assert (await http.get("/", headers={"Accept": "*/*"})).json()["name"] == "PRISM"


async def test_an_unauthorized_page_fragment_redirects_the_whole_page_to_the_login(tmp_path: Path) -> None:
    app = application(tmp_path, admin_keys="admin")
    async with browser(app, **{"HX-Request": "true", "Accept": "text/html"}) as http:
        for method, url, there in (
            ("GET", f"{HERE}/model?model_id=x", "/login?next=/model%3Fmodel_id%3Dx"),
            ("POST", f"{HERE}/settings", "/login?next=/settings"),
            ("GET", "http://[", "/login?next=/"),
            ("GET", "//evil.example", "/login?next=/"),
        ):
            answer = await http.request(
                method, "/settings/keys" if method == "POST" else "/", headers={"HX-Current-URL": url}
            )
            assert answer.status_code == 401
            assert answer.headers["hx-redirect"] == there


@pytest.mark.parametrize(
    "target",
    [
        *(
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "",
            "settings",
            "\\/evil",
        ),
        *("/\t/evil.example", "/\n//evil.example", "///evil.example", "/%0d%0aSet-Cookie: a=b", "/é", "/a b", " /x"),
    ],
)
async def test_the_login_redirects_to_no_other_site(tmp_path: Path, target: str) -> None:
    app = application(tmp_path, admin_keys="admin")
    async with browser(app) as http:
        assert 'name="next" value="/"' in (await http.get("/login", params={"next": target})).text
        assert (await log_in(http, back_to=target)).headers["location"] == "/"


async def test_a_change_with_a_cookie_must_say_that_it_comes_from_a_page_of_this_server(tmp_path: Path) -> None:
    app = application(tmp_path, admin_keys="admin")
    async with browser(app) as http:
        await log_in(http)
        for headers, status in (
            ({}, 403),
            ({"Sec-Fetch-Site": "none"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "http://127.0.0.1:9999"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://["}, 403),
            ({"Origin": HERE}, 201),
            ({"Sec-Fetch-Site": "same-origin"}, 201),
        ):
            answer = await http.post("/keys", json={"name": "x"}, headers=headers)
            assert answer.status_code == status, headers
        assert (await http.post("/logout")).status_code == 403  # or any page could log its reader out
        assert (await http.get("/keys")).status_code == 200


async def test_a_key_that_is_sent_counts_and_not_the_cookie_beside_it(tmp_path: Path) -> None:
    app = application(tmp_path, api_keys="api", admin_keys="admin")
    async with browser(app) as http:
        await log_in(http)
        assert (await http.get("/keys", headers={"X-API-Key": "api"})).status_code == 403
        assert (await http.get("/keys", headers={"X-API-Key": "wrong"})).status_code == 401


async def test_the_cookie_is_for_https_alone_where_the_page_came_over_it(tmp_path: Path) -> None:
    app = application(tmp_path, admin_keys="admin", allowed_hosts="prism.example")
    async with browser(app) as http:
        headers = {"Host": "prism.example", "Origin": "https://prism.example"}
        answer = await http.post("/login", data={"key": "admin"}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"].split("; ")


async def test_without_keys_there_is_no_login(tmp_path: Path) -> None:
    app = application(tmp_path)
    async with browser(app) as http:
        assert (await http.get("/login")).headers["location"] == "/"
        assert (await log_in(http, "any")).headers["location"] == "/"
        assert "set-cookie" not in (await log_in(http, "any")).headers


# Bodies -----------------------------------------------------------------------------------------------------------------


class Blocks:
    """A body of 4 MiB. taken: how many of its 64 KiB were read."""

    taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(64):
            self.taken += 1
            yield b" " * (1 << 16)


@pytest.mark.parametrize("path", ["/keys", "/share", "/login", "/settings/keys"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
async def test_an_endless_body_is_refused_before_the_key_is_checked(tmp_path: Path, path: str, kind: str) -> None:
    app = application(tmp_path, admin_keys="admin", max_body_mb=1)
    async with browser(app) as http:
        body = Blocks()
        assert (await http.post(path, content=body, headers={"Content-Type": kind})).status_code in (400, 401, 413)
        assert body.taken <= 34
        answer = await http.post(path, content=b" " * (2 << 20), headers={"Content-Type": kind})
        assert answer.status_code == 413
