"""What OpenSSH says, and what that means to a person. The lines are those of OpenSSH 9.2."""

from __future__ import annotations

import pytest

from app.core.ssh_address import SshAddress
from app.share.ssh_output import SITUATIONS, diagnose, granted_port

HOST = SshAddress("example.org", "ada", 2222)
CHANGED = [
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@",
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
    "Host key verification failed.",
]
UNKNOWN = [
    "No ED25519 host key is known for [example.org]:2222 and you have requested strict checking.",
    "Host key verification failed.",
]


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("Allocated port 40123 for remote forward to 127.0.0.1:8000", 40123),
        ("debug1: remote forward success for: listen 8080, connect 127.0.0.1:9000", 8080),
        ("debug1: remote forward success for: listen *:8080, connect 127.0.0.1:9000", 8080),
        ("debug1: Remote connections from *:8080 forwarded to local address 127.0.0.1:9000", 0),
        ("Warning: Permanently added 'example.org' to the list of known hosts.", 0),
        ("", 0),
    ],
)
def test_the_port_that_the_host_gave_is_read(line: str, port: int) -> None:
    assert granted_port(line) == port


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (CHANGED, "host_key_changed"),
        (UNKNOWN, "host_key_unknown"),
        (["ada@example.org: Permission denied (publickey)."], "permission_denied"),
        (["Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures"], "permission_denied"),
        (["Error: remote port forwarding failed for listen port 0"], "forwarding_refused"),
        (["ssh: connect to host example.org port 2222: Connection refused"], "connection_refused"),
        (["ssh: connect to host example.org port 2222: Connection timed out"], "unreachable"),
        (["ssh: connect to host example.org port 2222: No route to host"], "unreachable"),
        (["ssh: Could not resolve hostname example.org: Name or service not known"], "unresolvable"),
        (["command-line: line 0: Bad configuration option: forkafterauthentication"], "ssh_too_old"),
        (["Connection to example.org closed by remote host."], "ended"),
        ([], "ended"),
    ],
)
def test_each_situation_has_its_reason(lines: list[str], reason: str) -> None:
    assert diagnose(lines, HOST).reason == reason


def test_no_two_situations_have_the_same_message_and_each_has_a_next_step() -> None:
    assert len({detail for _, detail, _ in SITUATIONS.values()}) == len(SITUATIONS)
    assert len({hint for _, _, hint in SITUATIONS.values()}) == len(SITUATIONS)


def test_the_next_step_is_a_command_that_fits_the_host() -> None:
    assert diagnose(UNKNOWN, HOST).hint.endswith("ssh -p 2222 ada@example.org")
    assert "ssh-keygen -R '[example.org]:2222'" in diagnose(CHANGED, HOST).hint
    assert "ssh-keygen -R 'example.org'" in diagnose(CHANGED, SshAddress("example.org")).hint


def test_debug_lines_of_ssh_do_not_decide_the_reason() -> None:
    told = diagnose(["debug1: connect to address ::1 port 22: Connection refused", "Connection closed."], HOST)
    assert told.reason == "ended"
    assert told.detail.endswith("Connection closed.")
    assert told.values["lines"] == ["Connection closed."]
