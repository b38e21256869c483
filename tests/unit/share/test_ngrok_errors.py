"""What ngrok says, and what that means to a person. The lines are those that its users met."""

from __future__ import annotations

import pytest

from app.share.ngrok_errors import SITUATIONS, NgrokRefusal, failure, from_agent

MALFORMED = (
    "authentication failed: The authtoken you specified does not look like a proper ngrok authtoken.\\n"
    "Your authtoken: 2abcSECRET\\nInstructions to install your authtoken are on your ngrok dashboard:\\n"
    "https://dashboard.ngrok.com/get-started/your-authtoken\\r\\n\\r\\nERR_NGROK_105\\r\\n"
)
REVOKED = (
    "authentication failed: The authtoken you specified is properly formed, but it is invalid.\n"
    "Your authtoken: 2abcSECRET\n\nERR_NGROK_107\n"
)
SESSIONS = (
    "authentication failed: Your account is limited to 1 simultaneous ngrok agent sessions.\\n"
    "You can run multiple simultaneous tunnels from a single agent session.\\r\\n\\r\\nERR_NGROK_108\\r\\n"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MALFORMED, "token_refused"),
        (REVOKED, "token_refused"),
        ("authentication failed: Usage of ngrok requires a verified account.\\nERR_NGROK_4018", "token_refused"),
        (SESSIONS, "account_limit"),
        ('failed to dial ngrok server with address \\"connect.ngrok-agent.com:443\\": EOF', "network_blocked"),
        ("dial tcp: lookup connect.ngrok-agent.com: no such host", "network_blocked"),
        ("failed to send authentication request: read tcp 10.0.0.2:1->3.1.1.1:443: i/o timeout", "network_blocked"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "network_blocked"),
        ("The endpoint is already online. ERR_NGROK_334", "ended"),
    ],
)
def test_each_error_of_the_agent_has_a_known_reason(error: str, reason: str) -> None:
    assert from_agent(error).reason == reason
    assert reason in SITUATIONS


@pytest.mark.parametrize("error", [MALFORMED, REVOKED])
def test_an_error_that_repeats_the_token_is_told_without_it(error: str) -> None:
    told = from_agent(error)
    assert "2abcSECRET" not in told.said
    assert "ERR_NGROK_10" in told.said


def test_no_two_situations_have_the_same_message_and_each_has_a_next_step() -> None:
    failures = [failure(NgrokRefusal(reason, "…")) for reason in SITUATIONS]
    assert len({one.detail for one in failures}) == len(SITUATIONS)
    assert len({one.hint for one in failures}) == len(SITUATIONS)
    assert all(one.hint.endswith((".", "docs/errors.")) for one in failures)


def test_a_reason_from_another_version_is_still_reported() -> None:
    assert failure(NgrokRefusal("brand_new", "something.")).detail == "ngrok ended: something."
