"""Chromium as a person has it, where a tab behind another is hidden.

In the contexts that Playwright makes every tab counts as visible and focused. A browser that it only connects to, and
leaves as it is, hides what is behind.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, Playwright

from tests.acceptance.server import wait_for


@contextmanager
def browser_with_real_tabs(playwright: Playwright, command: list[str], profile: Path) -> Iterator[BrowserContext]:
    """command: of the browser and its arguments. profile: a folder of its own."""
    chosen = profile / "DevToolsActivePort"
    process = subprocess.Popen(
        [*command, "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: chosen.exists() and len(chosen.read_text().splitlines()) == 2, 30, "the browser's start")
        port = chosen.read_text().splitlines()[0]
        browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}", no_defaults=True)
        yield browser.contexts[0]
        browser.close()
    finally:
        process.terminate()
        process.wait(30)


def expect_hidden(page: Page) -> None:
    """Asked again by a timer: a page that is hidden draws no frames, by which it would be asked otherwise."""
    page.wait_for_function("() => document.visibilityState === 'hidden'", polling=100)
