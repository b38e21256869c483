"""Measure how soon the page of fifty models is painted on a phone's window, and how much of it is loaded.

.venv/bin/python scripts/first_paint.py            needs Chromium; takes half a minute
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Browser, Request, sync_playwright

from app.core.model import Status
from tests.acceptance.server import Server
from tests.browser import crowd
from tests.browser.conftest import ARGUMENTS, WIDTHS
from tests.conftest import headless_chromium

MODELS = 50
VISITS = 15
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="prism-first-paint-") as folder:
        home, environments = Path(folder, "home"), Path(folder, "environments")
        home.mkdir()
        environments.mkdir()
        server = Server(home, environments, PRISM_TARGET="process")
        crowd.write(home, [crowd.version(name, 0, Status.STOPPED, timedelta(1)) for name in crowd.names(MODELS)])
        server.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=headless_chromium(), args=[*ARGUMENTS])
                visit(browser, server.url)  # the browser itself is warm for the others
                seen = [visit(browser, server.url) for _ in range(VISITS)]
                browser.close()
        finally:
            server.stop()
    paints = sorted(paint for paint, _ in seen)
    print(f"first contentful paint of {MODELS} models, {VISITS} visits with an empty cache, in ms:")
    print(f"median {statistics.median(paints):.0f}, least {paints[0]:.0f}, most {paints[-1]:.0f}")
    print(f"loaded, with font, styles and scripts: {seen[0][1] / 1000:.0f} kB")


def visit(browser: Browser, url: str) -> tuple[float, int]:
    """Open the page with an empty cache; returns (milliseconds to the first contentful paint, bytes of all bodies)."""
    width, height = WIDTHS["phone"]
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        loaded: list[Request] = []
        page.on("requestfinished", lambda request: loaded.append(request))
        page.goto(url)
        painted = page.wait_for_function(PAINTED).json_value()
        return float(painted), sum(request.sizes()["responseBodySize"] for request in loaded)


if __name__ == "__main__":
    main()
