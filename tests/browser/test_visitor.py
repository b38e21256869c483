"""What no page may do is noticed: the visitor that all tests of this folder look through is not blind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.server import Server, wait_for
from tests.browser.conftest import StartServer, Visit
from tests.browser.tabs import expect_hidden
from tests.browser.visitor import Visitor

NAMELESS = "document.querySelector('main').append(document.createElement('input'))"
WIDE = "document.querySelector('main').insertAdjacentHTML('beforeend', '<div id=wide>wide</div>'); wide.style.width='4000px'"


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve()


@pytest.fixture
def visitor(server: Server, visit: Visit) -> Iterator[Visitor]:
    """At a page without fault; what a test makes it do wrong is forgiven in the end."""
    visitor = visit(server)
    visitor.goto("/docs/errors")
    yield visitor
    visitor.context.close()  # what is said until then is forgiven, too
    visitor.forgive()


def expect_fault(visitor: Visitor, *said: str) -> None:
    """One that says one of these. What the browser tells comes while it is asked."""

    def is_noticed() -> bool:
        visitor.page.evaluate("() => null")
        return any(words in fault for words in said for fault in visitor.verdict())

    wait_for(is_noticed, 30, f"one of {said}")


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("console.error('broken')", "console error: broken"),
        ("setTimeout(() => { throw new Error('thrown') })", "uncaught: Error: thrown"),
        ("fetch('/no-such-page')", "404 for GET"),
        ("alert('boo')", "a dialog opened: boo"),
    ],
)
def test_what_a_page_does_wrong_is_noticed(visitor: Visitor, deed: str, said: str) -> None:
    visitor.page.evaluate(f"() => {{ {deed} }}")
    expect_fault(visitor, said)


def test_a_request_to_elsewhere_is_noticed_even_where_the_page_forbids_it(visitor: Visitor) -> None:
    visitor.page.evaluate("() => { fetch('http://127.0.0.1:9/x').catch(() => null) }")
    expect_fault(visitor, "another origin", "Content Security Policy")


def test_what_some_people_cannot_read_or_reach_is_noticed(visitor: Visitor) -> None:
    visitor.page.evaluate(f"() => {{ {NAMELESS} }}")
    visitor.check()
    (fault,) = visitor.verdict()
    assert "axe: label: input" in fault


def test_the_same_is_noticed_where_scripts_are_off(server: Server, visit: Visit) -> None:
    visitor = visit(server, scripts=False)
    visitor.goto("/docs/errors")
    visitor.page.evaluate(f"() => {{ {NAMELESS} }}")
    visitor.check()
    (fault,) = visitor.verdict()
    assert "axe: label: input" in fault
    visitor.forgive()


def test_a_page_that_is_wider_than_its_window_is_noticed(visitor: Visitor) -> None:
    visitor.page.evaluate(f"() => {{ {WIDE} }}")
    visitor.check()
    (fault,) = visitor.verdict()
    assert "scrolls sideways" in fault


def test_a_refusal_that_was_awaited_and_did_not_come_is_noticed(visitor: Visitor) -> None:
    visitor.awaits(404)
    assert visitor.verdict() == ["no answer of status 404, which was awaited"]
    visitor.goto("/no-such-page")
    assert visitor.verdict() == []


def test_a_tab_behind_another_is_hidden_as_a_person_has_it(
    server: Server, visit_with_real_tabs: Callable[[str], Visitor]
) -> None:
    visitor = visit_with_real_tabs(server.url)
    first = visitor.goto("/docs/errors")
    second = visitor.goto("/docs/errors", visitor.context.new_page())
    second.bring_to_front()
    expect_hidden(first)
    first.bring_to_front()
    first.wait_for_function("() => document.visibilityState === 'visible'")
