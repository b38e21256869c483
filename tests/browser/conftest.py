"""Chromium, and servers with models to show it. Every test ends with what its visitors met: see Visitor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

from tests.acceptance.conftest import environments, iris_file
from tests.acceptance.server import Server
from tests.browser import steady_network
from tests.browser.tabs import browser_with_real_tabs
from tests.browser.visitor import Visitor
from tests.browser.wire import Wire
from tests.conftest import chromium, headless_chromium

__all__ = ["environments", "iris_file"]

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = {"narrow": (320, 640), "phone": (360, 740), "desk": (1280, 800)}

StartServer = Callable[..., Server]
Visit = Callable[..., Visitor]
LayWire = Callable[..., Wire]

WAIT_MS = 30_000

expect.set_options(timeout=WAIT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("browser")


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """For this folder alone: while Playwright's event loop runs in this thread, no other can."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = headless_chromium()
    assert program is not None  # a machine without a browser skips these tests
    program = steady_network.launcher(program, tmp_path_factory.mktemp("browser"))
    browser = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[StartServer]:
    """Starts servers with the given settings, and ends them with the module."""
    servers: list[Server] = []

    def start(**settings: object) -> Server:
        defaults = {"PRISM_TARGET": "process", "PRISM_SINGLE_ACTIVE_MODEL": "false"}
        server = Server(tmp_path_factory.mktemp("home"), environments, **{**defaults, **settings})
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
    assert not [server.log() for server in servers if "Traceback" in server.log()]


@pytest.fixture
def wire_to() -> Iterator[LayWire]:
    """Lays a network to a server: `wire_to(server)`, with more arguments as Wire has them."""
    with contextlib.ExitStack() as stack:

        def lay(server: Server, **how: int) -> Wire:
            wire = Wire(server.port, **how)
            stack.callback(wire.cut)
            return wire

        yield lay


@pytest.fixture
def visit(browser: Browser, wire_to: LayWire) -> Iterator[Visit]:
    """Opens a browser at a server: `visit(server, "phone", scheme="dark", scripts=False)`, or behind a Wire to it.

    wire_to: what it laid is taken away after the last visitor has left.
    """
    visitors: list[Visitor] = []

    def open_browser(
        server: Server | Wire, width: str = "desk", scheme: str = "light", *, scripts: bool = True, **options: Any
    ) -> Visitor:
        size = WIDTHS[width]
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,  # type: ignore[arg-type]
            java_script_enabled=scripts,
            **{"reduced_motion": "reduce", **options},
        )
        context.set_default_timeout(WAIT_MS)
        visitors.append(Visitor(context, server.url, scripts=scripts))
        return visitors[-1]

    yield open_browser
    for visitor in visitors:
        visitor.finish()


@pytest.fixture
def visit_with_real_tabs(playwright: Playwright, tmp_path: Path) -> Iterator[Callable[[str], Visitor]]:
    """Opens a browser at a URL, where only the tab in front is visible."""
    with contextlib.ExitStack() as stack:

        def open_browser(url: str) -> Visitor:
            command = [sys.executable, steady_network.__file__, str(chromium()), *ARGUMENTS]
            context = stack.enter_context(browser_with_real_tabs(playwright, command, tmp_path / "profile"))
            visitor = Visitor(context, url)
            stack.callback(visitor.finish)
            return visitor

        yield open_browser
