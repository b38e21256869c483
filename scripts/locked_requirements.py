"""Print poetry.lock as a requirements file with hashes, using only the standard library.

A fresh machine has Python and a package index but no Poetry; this lets `uv pip`
install exactly what the lock says. Usage:

    python scripts/locked_requirements.py [GROUP ...]     (default: main)
"""

import sys
import tomllib
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "poetry.lock"


def requirement(package: dict, groups: list[str]) -> str:
    """One line of a requirements file: name, exact version, marker, and every hash of the lock."""
    marker = package.get("markers", "")
    if isinstance(marker, dict):  # one marker for each group, where they differ
        wanted = [marker[group] for group in groups if group in marker]
        unconditional = len(wanted) < len([group for group in groups if group in package["groups"]])
        marker = "" if unconditional else " or ".join(f"({one})" for one in wanted)
    line = f"{package['name']}=={package['version']}"
    if marker:
        line += f" ; {marker}"
    return line + "".join(f" --hash={file['hash']}" for file in package["files"])


def main() -> None:
    groups = sys.argv[1:] or ["main"]
    for package in tomllib.loads(LOCK.read_text())["package"]:
        if not set(groups).isdisjoint(package["groups"]):
            print(requirement(package, groups))


if __name__ == "__main__":
    main()
