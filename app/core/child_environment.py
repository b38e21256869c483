"""The environment of every program that this server starts: made from an allow-list, never inherited.

The server's own environment holds its keys and its tunnel's token, and whatever else its owner has exported. A test
finds every place that starts a program and sees that its environment comes from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

USER = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR")
LANGUAGE = ("LANG", "LC_ALL", "LC_CTYPE")
USER_FOLDERS = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
PROXIES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
PYENV = ("PYENV_ROOT", "PYENV_VERSION")
SSH = ("SSH_AUTH_SOCK", "KRB5CCNAME")
NGROK = ("PYNGROK_NGROK_PATH",)
CREDENTIAL_HELPERS = ("DOCKER_CONFIG", "GNUPGHOME", "GPG_TTY", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY")
"""Variables of the programs that keep the passwords of Docker's registries."""

ALLOWED = frozenset(
    {
        *(*USER, *LANGUAGE, *USER_FOLDERS, *PROXIES, *CERTIFICATES),
        *(*PYENV, *SSH, *NGROK, *CREDENTIAL_HELPERS),
    }
)
"""Every variable that may be handed on. None of them is a setting of PRISM."""


def child_environment(inherited: Iterable[str] = (), own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of this process named in `inherited`, where they are set, and those of `own`, which win.

    Raises ValueError for the name of a variable that is not ALLOWED.
    """
    names = tuple(inherited)
    refused = [name for name in names if name not in ALLOWED]
    if refused:
        raise ValueError(f"{', '.join(refused)} of this process may not be passed on to another")
    return {**{name: os.environ[name] for name in names if name in os.environ}, **(own or {})}


def blanked_environment(inherited: Iterable[str]) -> dict[str, str]:
    """Return every variable of this process that is not in `inherited`, set to nothing.

    For a library that hands on the whole environment of this process and takes only variables to replace.
    """
    return {name: "" for name in os.environ if name not in child_environment(inherited)}
