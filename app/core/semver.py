"""Numbers of versions: major.minor.patch, as semantic versioning writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from app.errors import BadInput

Number = tuple[int, int, int]

FIRST: Number = (1, 0, 0)
_PART = r"(0|[1-9][0-9]{0,8})"
_PATTERN = re.compile(rf"{_PART}\.{_PART}\.{_PART}", re.ASCII)


class Bump(StrEnum):
    """The part of a version's number that the next version raises; the parts after it become 0."""

    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


def number_of(version: str) -> Number | None:
    """Return the three parts of a version's number; None if it is not written as major.minor.patch."""
    match = _PATTERN.fullmatch(version)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def parse_version(text: str) -> str:
    """Return a version that a person gave. Raises BadInput unless it is major.minor.patch."""
    if number_of(text) is None:
        raise BadInput(
            f"The version `{text[:50]}` is not a semantic version.",
            hint="Give three whole numbers with dots and without leading zeros, such as 2.0.0 or 1.4.2.",
            field="version",
        )
    return text


def parse_bump(text: str) -> Bump:
    """Return the part that a person wants raised; the minor one for "". Raises BadInput."""
    try:
        return Bump(text) if text else Bump.MINOR
    except ValueError:
        raise BadInput(
            f"`bump` is `{text[:50]}`, not major, minor or patch.",
            hint="After 1.4.2, major gives 2.0.0, minor 1.5.0 and patch 1.4.3.",
            field="bump",
        ) from None


def next_version(versions: Iterable[str], bump: Bump) -> str:
    """Return the number after the highest of a model's versions; 1.0.0 for its first one."""
    numbers = [number for version in versions if (number := number_of(version)) is not None]
    if not numbers:
        major, minor, patch = FIRST
    else:
        major, minor, patch = max(numbers)
        major, minor, patch = {
            Bump.MAJOR: (major + 1, 0, 0),
            Bump.MINOR: (major, minor + 1, 0),
            Bump.PATCH: (major, minor, patch + 1),
        }[bump]
    return f"{major}.{minor}.{patch}"
