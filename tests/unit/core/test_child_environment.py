from __future__ import annotations

import pytest

from app.core.child_environment import ALLOWED, USER, blanked_environment, child_environment

SECRETS = ("PRISM_ADMIN_KEYS", "PRISM_API_KEYS", "NGROK_AUTHTOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PYTHONPATH")


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.delenv("LOGNAME", raising=False)


def test_a_child_gets_nothing_that_nobody_named() -> None:
    assert child_environment() == {}


def test_a_child_gets_what_is_named_and_set_and_what_is_its_own() -> None:
    found = child_environment(("PATH", "LOGNAME"), {"PATH": "/own", "NGROK_AUTHTOKEN": "its own"})

    assert found == {"PATH": "/own", "NGROK_AUTHTOKEN": "its own"}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_refused_even_when_somebody_names_it(name: str) -> None:
    assert name not in ALLOWED
    with pytest.raises(ValueError, match=name):
        child_environment((name,))


def test_what_a_library_would_hand_on_is_blank_but_for_what_is_named() -> None:
    blanked = blanked_environment(USER)

    assert {blanked[name] for name in SECRETS} == {""}
    assert "PATH" not in blanked
