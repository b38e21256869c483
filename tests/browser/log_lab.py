"""Opens the log page and compares what it shows with the log on disk."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from model_container.contract.logfile import split_timestamp
from tests.acceptance.server import Server

SHOWN = "() => [...document.querySelectorAll('#log .line')].map((line) => line.textContent)"


def log_page(server: Server) -> str:
    return f"/model-logs?model_id={server.model('talker')['model_id']}"


def say(server: Server, count: int, text: str, pause_seconds: float = 0) -> None:
    server.predict("talker", [[count, text, pause_seconds]]).raise_for_status()


def on_disk(server: Server) -> list[str]:
    """The lines of the log, each after its time."""
    folder = server.home / "model_store" / "uploads" / server.model("talker")["model_id"]
    return (folder / "logs" / "runtime.log").read_text().splitlines()


def as_shown(line: str) -> str:
    """A line of the log as the page shows it: after its time of day."""
    time, text = split_timestamp(line.encode())
    return f"{time[11:19]} {text.decode()}" if time else line


def expect_whole(page: Page, server: Server) -> None:
    expect(page.locator("#log .line").last).to_have_text(as_shown(on_disk(server)[-1]))
    assert page.evaluate(SHOWN) == [as_shown(line) for line in on_disk(server)]


def expect_live(page: Page) -> None:
    expect(page.locator("#log-state")).to_have_text("Live")
