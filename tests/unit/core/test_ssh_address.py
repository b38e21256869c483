"""Where an SSH tunnel goes, as the setting says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ssh_address import SshAddress, ssh_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://ada@example.org:2222", SshAddress("example.org", "ada", 2222)),
        ("ssh://example.org", SshAddress("example.org")),
        ("ssh://my_alias/", SshAddress("my_alias")),
        ("ssh://ada@example.org?remote_port=8080", SshAddress("example.org", "ada", 0, 8080)),
        ("ssh://ada@[2001:db8::1]:22?remote_port=1", SshAddress("2001:db8::1", "ada", 22, 1)),
    ],
)
def test_an_address_is_read(text: str, address: SshAddress) -> None:
    assert ssh_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=id@example.org",
        "ssh://ada@-oProxyCommand=id",
        "ssh://ada@example.org -oProxyCommand=id",
        "ssh://ada@example.org\n",
        "ssh://ada@example.org%0a",
        "ssh://ada;id@example.org",
        "ssh://$(id)@example.org",
        "ssh://ada@exa%mple.org",
        "ssh://ada@example.org:0",
        "ssh://ada@example.org:65536",
        "ssh://ada@example.org?remote_port=0",
        "ssh://ada@example.org?remote_port=1&x=2",
        "ssh://ada@example.org/path",
        "ssh://ada@[1:2]",
        "ssh://",
        "http://example.org",
        "localhost.run",
        "",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ssh_address(text)


def test_a_password_is_rejected_because_process_lists_would_show_it() -> None:
    with pytest.raises(ValueError, match="holds a password; use a key"):
        ssh_address("ssh://ada:secret@example.org")


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_parsed_address_is_never_an_option_of_ssh(user: str, host: str) -> None:
    try:
        address = ssh_address(f"ssh://{user}@{host}")
    except ValueError:
        return
    assert not address.host.startswith("-")
    assert not address.user.startswith("-")
    assert not set(address.user + address.host) & set(" \t\n\r\0;|&$`'\"\\%/@(){}<>*?#")


def test_a_url_is_that_of_the_host_with_the_port_it_gave() -> None:
    assert SshAddress("example.org").url(4000) == "http://example.org:4000"
    assert SshAddress("2001:db8::1").url(4000) == "http://[2001:db8::1]:4000"
