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


def test_a_child_process_inherits_only_listed_variables() -> None:
    assert child_environment() == {}


def test_a_child_process_gets_listed_variables_and_its_own() -> None:
    found = child_environment(("PATH", "LOGNAME"), {"PATH": "/own", "NGROK_AUTHTOKEN": "its own"})

    assert found == {"PATH": "/own", "NGROK_AUTHTOKEN": "its own"}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_refused_even_if_it_is_listed(name: str) -> None:
    assert name not in ALLOWED
    with pytest.raises(ValueError, match=name):
        child_environment((name,))


def test_variables_that_a_library_would_pass_on_are_blanked() -> None:
    blanked = blanked_environment(USER)

    assert {blanked[name] for name in SECRETS} == {""}
    assert "PATH" not in blanked
