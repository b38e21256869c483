"""Print poetry.lock as a requirements file with hashes, using only the standard library.

A fresh machine has Python and a package index but no Poetry; this lets `uv pip` (or pip) install exactly what the
lock says. Usage:

    python scripts/locked_requirements.py [GROUP ...]     (default: main)
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "poetry.lock"
EXTRA = re.compile(r'extra == "[^"]*"')
ALWAYS = 'python_version >= "3"'


class UnknownGroup(ValueError):
    """The lock has no package in this group: most likely a misspelt name."""


def requirements(lock: dict[str, Any], groups: list[str]) -> Iterator[str]:
    """A line for each locked package of `groups`; its marker says on which machines it is installed."""
    known = {group for package in lock["package"] for group in package["groups"]}
    if unknown := sorted(set(groups) - known):
        raise UnknownGroup(f"poetry.lock has no group {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
    for package in lock["package"]:
        if not set(groups).isdisjoint(package["groups"]):
            yield requirement(package, groups)


def requirement(package: dict[str, Any], groups: list[str]) -> str:
    """One line of a requirements file: name, exact version, marker, and every hash of the lock."""
    condition = marker(package, groups)
    line = f"{package['name']}=={package['version']}" + (f" ; {condition}" if condition else "")
    return line + "".join(f" --hash={file['hash']}" for file in package["files"])


def marker(package: dict[str, Any], groups: list[str]) -> str:
    """When `package` is wanted by any of `groups`; "" for always. Poetry writes a table where the groups differ.

    Every extra is wanted, and installers evaluate a requirements file without any, so what asks for one always holds.
    """
    markers = package.get("markers", "")
    if isinstance(markers, dict):
        wanted = [group for group in groups if group in package["groups"]]
        if any(group not in markers for group in wanted):  # one of them wants it everywhere
            return ""
        markers = " or ".join(f"({markers[group]})" for group in wanted)
    markers = EXTRA.sub(ALWAYS, markers)
    return "" if markers in (ALWAYS, f"({ALWAYS})") else markers


def main() -> None:
    try:
        sys.stdout.writelines(
            line + "\n" for line in requirements(tomllib.loads(LOCK.read_text()), sys.argv[1:] or ["main"])
        )
    except UnknownGroup as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
