"""The environment of a program that the user chose and that runs for the user: an editor, ruff, black."""

from __future__ import annotations

import os

SECRETS = ("NGROK_AUTHTOKEN", "DATABASE_URL")
"""PRISM's secrets under names that are not its own."""


def user_environment() -> dict[str, str]:
    """Return this shell's variables without those of PRISM, which may be keys.

    An allow-list would be wrong here: such a program is the user's own, and is set up by variables that nobody else
    knows (TERM, VIMINIT, RUFF_CACHE_DIR). It gets what it would get if it were started by hand, but for our secrets.
    """
    return {name: value for name, value in os.environ.items() if not _is_of_prism(name)}


def _is_of_prism(name: str) -> bool:
    return name.upper().startswith("PRISM_") or name.upper() in SECRETS
