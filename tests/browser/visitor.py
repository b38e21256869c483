"""A person at a browser: one or more tabs, and everything that went wrong in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, Response, WebError

AXE = (Path(__file__).parent / "vendor" / "axe" / "axe.min.js").read_text()
RUN_AXE = """() => axe.run(document, {
  runOnly: {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]},
  rules: {"target-size": {enabled: true}},
  resultTypes: ["violations"],
}).then((results) => results.violations.flatMap((rule) =>
  rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary.replace(/\\s+/g, " ")}`)))"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")
CUT = re.compile(
    r"net::ERR_(INTERNET_DISCONNECTED|CONNECTION_\w+|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|NETWORK_CHANGED)"
)


class Visitor:
    """A browser context at a server. `page` is its first tab.

    faults: what no visit may bring about; the fixture asserts at the end of each test that there is none.
    """

    def __init__(self, context: BrowserContext, url: str, *, scripts: bool = True) -> None:
        self.context = context
        self.url = url
        self.faults: list[str] = []
        self.requests: list[Request] = []
        self.scripts = scripts
        self._awaited: dict[int, bool] = {}
        self._may_be_cut = False
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("dialog", self._on_dialog)
        context.on("request", self._on_request)
        context.on("response", self._on_response)
        self.page = context.pages[0] if context.pages else context.new_page()

    def goto(self, path: str, page: Page | None = None) -> Page:
        page = page or self.page
        page.goto(f"{self.url}{path}")
        return page

    def awaits(self, status: int) -> None:
        """This refusal is meant: the test must meet it, and what the browser says of it is no fault."""
        self._awaited.setdefault(status, False)

    @contextmanager
    def without_network(self) -> Iterator[None]:
        """What the browser says of a connection that is lost in here is no fault."""
        self._may_be_cut = True
        yield
        self._may_be_cut = False

    def check(self, page: Page | None = None) -> None:
        """The state that is shown now is accessible to all and fits its window."""
        page = page or self.page
        page.wait_for_load_state()  # without its styles a page that was just gone to is another
        self.faults += [f"{page.url}: axe: {finding}" for finding in self._axe(page)]
        if (wider := page.evaluate(WIDER)) > 0:
            self.faults.append(f"{page.url}: scrolls sideways by {wider} px, at a width of {page.viewport_size}")

    def verdict(self) -> list[str]:
        """All that went wrong, and what should have been refused and was not."""
        unmet = [f"no answer of status {status}, which was awaited" for status, met in self._awaited.items() if not met]
        return self.faults + unmet

    def forgive(self) -> None:
        self.faults.clear()
        self._awaited.clear()

    def finish(self) -> None:
        """End the visit. Raises AssertionError with all that went wrong in it."""
        self.context.close()
        assert not self.verdict(), "\n".join(self.verdict())

    def _axe(self, page: Page) -> list[str]:
        if not self.scripts:
            return self._axe_of_twin(page)
        if page.evaluate("() => !window.axe"):
            page.evaluate(AXE)
        found: list[str] = page.evaluate(RUN_AXE)
        return found

    def _axe_of_twin(self, page: Page) -> list[str]:
        """Where scripts are off axe has none either: it looks at the same page, styled alike, in a context of its own."""
        browser = self.context.browser
        assert browser is not None
        content = page.content()
        with browser.new_context(viewport=page.viewport_size) as context:
            twin = context.new_page()
            twin.route("**/*.js", lambda route: route.abort())
            twin.route(page.url, lambda route: route.fulfill(body=content, content_type="text/html"))
            twin.goto(page.url)
            twin.evaluate(AXE)
            found: list[str] = twin.evaluate(RUN_AXE)
        return found

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        refused = REFUSED.match(message.text)
        if refused and int(refused[1]) in self._awaited:
            return
        if CUT.search(message.text) and self._may_be_cut:
            return
        self.faults.append(f"{message.page.url if message.page else ''}: console {message.type}: {message.text}")

    def _on_error(self, error: WebError) -> None:
        self.faults.append(f"uncaught: {error.error.stack or error.error.message}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        self.requests.append(request)
        if not is_at(request.url, self.url):
            self.faults.append(f"a request to another origin: {request.method} {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status < 400:
            return
        if response.status in self._awaited:
            self._awaited[response.status] = True
        else:
            self.faults.append(f"{response.status} for {response.request.method} {response.url}")


def is_at(url: str, origin: str) -> bool:
    wanted: Any = urlsplit(origin)
    found = urlsplit(url)
    return found.scheme in ("data", "blob", "about") or (found.scheme, found.netloc) == (wanted.scheme, wanted.netloc)
