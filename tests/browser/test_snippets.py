"""The programs that the page offers, run as they are by those who would run them."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import expect

from tests.acceptance.server import CHECKOUT, Server
from tests.browser.conftest import StartServer, Visit

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def servers(serve: StartServer, iris_file: Path) -> dict[str, Server]:
    """By the key they ask for: one that anyone here may use, and one with keys."""
    servers = {key: serve(PRISM_API_KEYS=key) for key in ("", KEY)}
    for key, server in servers.items():
        server.http.headers["X-API-Key"] = key
        server.deploy(iris_file, model_name="iris é")
    return servers


def predict_page(server: Server) -> str:
    (model,) = server.http.get("/models").json()["models"]
    return f"/predict?model_id={model['model_id']}"


def run(*command: str, told: str = "") -> Any:
    """What a program prints, which is JSON or a Python literal."""
    environ = {"PATH": "/usr/bin:/bin", "PRISM_API_KEY": KEY, "PYTHONPATH": str(CHECKOUT)}
    ran = subprocess.run(command, input=told, capture_output=True, text=True, timeout=60, env=environ)
    assert ran.returncode == 0, ran.stderr
    try:
        return json.loads(ran.stdout)
    except json.JSONDecodeError:
        return ast.literal_eval(ran.stdout)


def node() -> str:
    """The machine's own, or the one that comes with Playwright."""
    return shutil.which("node") or compute_driver_executable()[0]


@pytest.mark.parametrize("key", ["", KEY], ids=["open", "with keys"])
def test_every_snippet_answers_what_the_page_shows(servers: dict[str, Server], visit: Visit, key: str) -> None:
    server = servers[key]
    visitor = visit(server)
    page = visitor.goto(predict_page(server))
    if key:
        page.get_by_label("key").fill(key)
        page.get_by_role("button", name="Log in").click()
    page.get_by_label("petal length (cm)").fill("5.5")
    page.get_by_label("petal width (cm)").fill("2")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#answer")).to_have_text("virginica")
    shown = json.loads(page.locator("#raw-answer").text_content() or "")
    code = {
        name: page.locator(f"#code-{name}").text_content() or "" for name in ("curl", "python", "javascript", "sdk")
    }
    ran = {
        "curl": run("bash", "-c", code["curl"]),
        "python": run(sys.executable, "-c", code["python"]),
        "javascript": run(node(), "-e", code["javascript"]),
        "sdk": run(sys.executable, "-c", code["sdk"]),
    }
    for name, answer in ran.items():
        assert answer["predictions"] == ["virginica"], name
        assert answer["probabilities"] == shown["probabilities"], name
    for name in ("python", "javascript", "sdk"):
        page.locator(f"#{name} summary").click()
    visitor.check()


def test_a_snippet_is_copied_whole(servers: dict[str, Server], visit: Visit) -> None:
    visitor = visit(servers[""], permissions=["clipboard-read", "clipboard-write"])
    page = visitor.goto(predict_page(servers[""]))
    page.get_by_role("button", name="Copy curl").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == page.locator("#code-curl").text_content()
