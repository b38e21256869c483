"""Which number a new version gets, and which numbers are refused."""

from __future__ import annotations

import pytest

from app.core.semver import Bump, next_version, number_of, parse_bump, parse_version
from app.errors import BadInput


@pytest.mark.parametrize(
    ("versions", "bump", "expected"),
    [
        ((), Bump.PATCH, "1.0.0"),
        (("1.0.0",), Bump.MAJOR, "2.0.0"),
        (("1.4.2",), Bump.MINOR, "1.5.0"),
        (("1.4.2",), Bump.PATCH, "1.4.3"),
        (("1.9.0", "1.10.0", "0.30.0"), Bump.MINOR, "1.11.0"),
        (("2.0.0", "1.5.0"), Bump.PATCH, "2.0.1"),
        (("of another time",), Bump.MAJOR, "1.0.0"),
    ],
)
def test_the_next_version_follows_the_highest_one(versions: tuple[str, ...], bump: Bump, expected: str) -> None:
    assert next_version(versions, bump) == expected


@pytest.mark.parametrize("text", ["2", "1.2", "v1.2.3", "1.2.3-rc1", "01.2.3", "1.2.3.4", "1.2.-3", "1.2.³", "1.2.3\n"])
def test_what_is_not_three_numbers_is_refused_with_an_example(text: str) -> None:
    assert number_of(text) is None
    with pytest.raises(BadInput, match="is not a semantic version") as refused:
        parse_version(text)
    assert "2.0.0" in refused.value.hint


def test_a_part_to_raise_is_one_of_three() -> None:
    assert [parse_bump(text) for text in ("", "major", "patch")] == [Bump.MINOR, Bump.MAJOR, Bump.PATCH]
    with pytest.raises(BadInput, match="`bump` is `epoch`"):
        parse_bump("epoch")
