"""An upload that takes its time: how far it is, and that it can be called off."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.acceptance.server import Server, wait_for
from tests.browser import files
from tests.browser.conftest import LayWire, StartServer, Visit
from tests.browser.journey import offer

SIZE_MIB = 16
BYTES_A_SECOND = 3 << 20


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve()


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.large(tmp_path_factory.mktemp("files"), SIZE_MIB)


def stored_bytes(server: Server) -> int:
    return sum(path.stat().st_size for path in (server.home / "model_store" / "uploads").rglob("*") if path.is_file())


def share_of(bar: Locator) -> float:
    return float(bar.evaluate("(bar) => bar.position"))


def test_progress_is_of_bytes_and_ends_with_what_was_read(
    server: Server, visit: Visit, wire_to: LayWire, large_file: Path
) -> None:
    visitor = visit(wire_to(server, upward_bytes_per_second=BYTES_A_SECOND))
    page = offer(visitor, large_file)
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    wait_for(lambda: 0.1 < share_of(bar) < 0.9, 30, "a tenth of the way")
    earlier = share_of(bar)
    expect(page.locator(".progress-figures")).to_have_text(re.compile(r"^\d[\d.]* of 17 MB, [\d.]+ MB/s$"))
    visitor.check()
    wait_for(lambda: stored_bytes(server) > earlier * (SIZE_MIB << 20), 30, "the arrival of the bytes it counted")
    assert earlier < share_of(bar) < 1, "it went on meanwhile, and not to the end: that was not sent yet"
    expect(page.get_by_role("heading", level=1)).to_have_text("large.joblib", timeout=30_000)
    page.get_by_role("button", name="Take another file").click()
    expect(page.get_by_label("Model file", exact=True)).to_be_visible()
    wait_for(lambda: stored_bytes(server) == 0, 10, "the end of the upload that nobody wants")


@pytest.mark.parametrize("way", ["Cancel", "leaving"])
def test_a_cancelled_upload_leaves_nothing(
    server: Server, visit: Visit, wire_to: LayWire, large_file: Path, way: str
) -> None:
    visitor = visit(wire_to(server, upward_bytes_per_second=BYTES_A_SECOND))
    page = offer(visitor, large_file)
    wait_for(lambda: stored_bytes(server) > 1 << 20, 30, "the first mebibyte")
    if way == "Cancel":
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("progressbar")).not_to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("cancelled")
        expect(page.get_by_label("Model file", exact=True)).to_be_focused()
        visitor.check()
    else:
        visitor.goto("/settings")
    wait_for(lambda: stored_bytes(server) == 0, 10, "the end of what was received")
    assert server.http.get("/models").json() == {"models": []}
