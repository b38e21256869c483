"""What a browser without scripts sees of a page: its text, links, forms and ids."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

import httpx2

from tests.acceptance.server import Server

BOUNDARY = "----a-boundary-of-a-browser"
VOID = {"meta", "link", "input", "img", "path", "br", "hr"}
INLINE = {"a", "b", "code", "em", "small", "span", "strong"}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


class Element:
    """A tag with its attributes and all that is in it."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Element | str] = []

    @property
    def text(self) -> str:
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            elif child.tag not in ("script", "style"):
                around = "" if child.tag in INLINE else " "
                yield around
                yield from child._texts()
                yield around

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Below this one, in the order of the page."""
        return [one for one in self.walk() if (not tag or one.tag == tag) and one.has(attributes)]

    def one(self, tag: str = "", **attributes: str) -> Element:
        """The only one. Raises AssertionError if there is none, or another."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag} {attributes}"
        return found[0]

    def has(self, attributes: dict[str, str]) -> bool:
        return all(self.attributes.get(name) == value for name, value in attributes.items())

    def walk(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse(answer: httpx2.Response) -> Element:
    """A page or a part of one. Raises AssertionError for what is no HTML, or not closed."""
    assert answer.headers["content-type"].startswith("text/html"), answer.text[:500]
    reader = _Reader()
    reader.feed(answer.text)
    assert len(reader._open) == 1, f"<{reader._open[-1].tag}> is not closed"
    return reader.root


def get(server: Server, path: str, **headers: str) -> httpx2.Response:
    """As a browser asks, which follows redirects."""
    return server.http.get(path, headers={**BROWSER, **headers}, follow_redirects=True)


def page(server: Server, path: str) -> Element:
    answer = get(server, path)
    assert answer.status_code == 200, answer.text[:2000]
    return parse(answer)


def filled(form: Element) -> dict[str, str]:
    """What a browser would send of the form as it stands, but for files and buttons."""
    sent: dict[str, str] = {}
    for one in form.walk():
        name, kind = one.attributes.get("name"), one.attributes.get("type", "text")
        if not name or one.tag == "button" or kind == "file":
            continue
        if one.tag == "textarea":
            sent[name] = one.text
        elif one.tag == "select":
            options = one.all("option")
            chosen = [option for option in options if "selected" in option.attributes] or options[:1]
            sent[name] = chosen[0].attributes.get("value", chosen[0].text)
        elif kind != "checkbox" or "checked" in one.attributes:
            sent[name] = one.attributes.get("value", "on" if kind == "checkbox" else "")
    return sent


def submit(
    server: Server,
    form: Element,
    files: list[tuple[str, str, bytes]] | None = None,
    leave_out: tuple[str, ...] = (),
    **values: str,
) -> httpx2.Response:
    """Send a form as a browser does, without following where it leads. files: (field, filename, content)."""
    assert form.attributes["method"] == "post"
    fields = {name: value for name, value in {**filled(form), **values}.items() if name not in leave_out}
    if form.attributes.get("enctype") != "multipart/form-data":
        return server.http.post(form.attributes["action"], data=fields, headers=BROWSER, follow_redirects=False)
    given = list(files or [])
    chosen = {name for name, _, _ in given}
    names = [one.attributes["name"] for one in form.all("input", type="file")]
    given += [(name, "", b"") for name in names if name not in chosen]
    headers = {**BROWSER, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = multipart(fields, given)
    return server.http.post(form.attributes["action"], content=body, headers=headers, follow_redirects=False)


def offered(server: Server, name: str, content: bytes, code: bytes | None = None) -> httpx2.Response:
    """What the upload page answers to a file."""
    form = page(server, "/upload-model").one("form")
    files = [("file", name, content), *([("code_files", "shapes.py", code)] if code else [])]
    return submit(server, form, files)


def reviewed(server: Server, name: str, content: bytes) -> Element:
    """The page that shows what is in a file."""
    answer = offered(server, name, content)
    assert answer.status_code == 303, answer.text
    return page(server, answer.headers["location"])


def deploy_form(shown: Element) -> Element:
    return shown.one("form", id="deploy-form")


def multipart(fields: dict[str, str], files: list[tuple[str, str, bytes]]) -> bytes:
    """As browsers write it, who send a file that nobody chose as an empty one without a name."""
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="{name}"; filename="{filename}"', content) for name, filename, content in files]
    lines = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (BOUNDARY.encode(), head.encode(), content)
        for head, content in parts
    ]
    return b"".join([*lines, b"--%b--\r\n" % BOUNDARY.encode()])
