"""Sessions of browsers: how long they last, and where a login leads."""

from __future__ import annotations

import pytest

from app.access.sessions import LIFETIME_SECONDS, Sessions
from app.ui.routes.login import local_path


def test_a_session_ends_after_its_lifetime_whether_or_not_it_is_used() -> None:
    now = 1000.0
    sessions = Sessions(lambda: now)
    session = sessions.begin()
    other = sessions.begin()
    now += LIFETIME_SECONDS - 1
    assert sessions.holds(session)
    now += 2
    assert not sessions.holds(session)
    assert not sessions.holds(other)
    assert not sessions.holds("")


@pytest.mark.parametrize("path", ["/", "/settings", "/model?model_id=a%20b&x=[1]", "/a//b", "/@x:y"])
def test_a_path_of_this_server_is_where_the_login_leads(path: str) -> None:
    assert local_path(path) == path
