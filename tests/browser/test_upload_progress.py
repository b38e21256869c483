"""An upload that takes its time: how far it is, and that it can be called off."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.acceptance.server import Server, wait_for
from tests.browser import files
from tests.browser.conftest import LayWire, StartServer, Visit
from tests.browser.journey import offer

SIZE_MIB = 16
BYTES_A_SECOND = 3 << 20
AT_FIRST, LATER = 3 << 20, 10 << 20
"""Bytes that the network carries until a test allows more, so that none comes too late for an upload under way. The
browser's own socket takes some 4 MiB more, which its bar counts as sent."""


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve()


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.large(tmp_path_factory.mktemp("files"), SIZE_MIB)


def stored_bytes(server: Server) -> int:
    total = 0
    for parent, _, names in os.walk(server.home / "model_store" / "uploads"):
        for name in names:
            with suppress(FileNotFoundError):  # removed just now
                total += Path(parent, name).stat().st_size
    return total


def share_of(bar: Locator) -> float:
    return float(bar.evaluate("(bar) => bar.position"))


def test_progress_is_of_bytes_and_ends_with_what_was_read(
    server: Server, visit: Visit, wire_to: LayWire, large_file: Path
) -> None:
    wire = wire_to(server, upward_bytes_per_second=BYTES_A_SECOND, most_upward_bytes=AT_FIRST)
    visitor = visit(wire)
    page = offer(visitor, large_file)
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    wait_for(lambda: share_of(bar) > 0.1, 30, "a tenth of the way")
    earlier = share_of(bar)
    assert earlier < 0.5, "more was not sent yet"
    expect(page.locator(".progress-figures")).to_have_text(re.compile(r"^\d[\d.]* of 17 MB, [\d.]+ MB/s$"))
    visitor.check()
    wire.most_upward_bytes = LATER
    wait_for(lambda: stored_bytes(server) > earlier * (SIZE_MIB << 20), 30, "the arrival of the bytes it counted")
    wait_for(lambda: share_of(bar) > earlier, 30, "the bar to go on")
    assert share_of(bar) < 1, "the end was not sent yet"
    wire.most_upward_bytes = 0
    expect(page.get_by_role("heading", level=1)).to_have_text("large.joblib", timeout=30_000)
    page.get_by_role("button", name="Choose another file").click()
    expect(page.get_by_label("Model file", exact=True)).to_be_visible()
    wait_for(lambda: stored_bytes(server) == 0, 30, "the end of the upload that nobody wants")


@pytest.mark.parametrize("way", ["Cancel", "leaving"])
def test_a_cancelled_upload_leaves_nothing(
    server: Server, visit: Visit, wire_to: LayWire, large_file: Path, way: str
) -> None:
    wire = wire_to(server, upward_bytes_per_second=BYTES_A_SECOND, most_upward_bytes=AT_FIRST)
    visitor = visit(wire)
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
    wire.most_upward_bytes = 0
    wait_for(lambda: stored_bytes(server) == 0, 30, "the end of what was received")
    assert server.http.get("/models").json()["models"] == []
