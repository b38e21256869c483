"""Compares answers of two versions to the same request, and tells a difference from what production does by itself."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import isnan

from msgspec import Struct

RELATIVE = 1e-5
ABSOLUTE = 1e-8
DIFFERENCES_MAX = 100
NOISE_RELATIVE = 0.2
NOISE_ABSOLUTE = 0.0003
EXACT_INTEGERS = 1 << 53
"""From here on, integers are identifiers: as floats, different ones would look alike."""


class DifferenceKind(StrEnum):
    """NUMBER: beyond the tolerance. LABEL: another text or truth value. ARGMAX: scores whose greatest is another one.
    TYPE: a number in the place of a text and the like."""

    NUMBER = "number"
    LABEL = "label"
    ARGMAX = "argmax"
    TYPE = "type"
    LENGTH = "length"
    MISSING = "missing"
    EXTRA = "extra"


class Difference(Struct, frozen=True):
    """One place at which two answers differ. path: such as `predictions[3].score`; field: the same for all items.

    production, shadow: the values; for LENGTH, the lengths; for MISSING and EXTRA, the one that is there.
    """

    path: str
    field: str
    kind: DifferenceKind
    production: object = None
    shadow: object = None


def differences(
    production: object,
    shadow: object,
    *,
    relative: float = RELATIVE,
    absolute: float = ABSOLUTE,
    most: int = DIFFERENCES_MAX,
) -> list[Difference]:
    """Return where two parsed JSON answers differ, at most `most` places. Not a number equals not a number.

    Numbers agree if |a − b| ≤ absolute + relative·|a|, as numpy.isclose has it.
    """
    found: list[Difference] = []
    pending: list[tuple[str, str, object, object]] = [("", "", production, shadow)]  # a stack: answers may be deep
    while pending and len(found) < most:
        path, field, left, right = pending.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            found += [
                Difference(_member(path, name), _member(field, name), DifferenceKind.MISSING, value)
                for name, value in left.items()
                if name not in right
            ]
            found += [
                Difference(_member(path, name), _member(field, name), DifferenceKind.EXTRA, None, value)
                for name, value in right.items()
                if name not in left
            ]
            shared = [name for name in left if name in right]
            pending += [
                (_member(path, name), _member(field, name), left[name], right[name]) for name in reversed(shared)
            ]
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                found.append(Difference(path, field, DifferenceKind.LENGTH, len(left), len(right)))
            elif _are_scores(left) and _are_scores(right):
                found += _score_differences(path, field, left, right, relative, absolute)
            else:
                places = range(len(left) - 1, -1, -1)
                pending += [(f"{path}[{place}]", f"{field}[]", left[place], right[place]) for place in places]
        elif (kind := _difference(left, right, relative, absolute)) is not None:
            found.append(Difference(path, field, kind, left, right))
    return found[:most]


def is_beyond_noise(differing: int, pairs: int, noisy: int, noise_pairs: int) -> bool:
    """Return whether a field differs more often than production differs from itself.

    differing: of the pairs of production and shadow. noisy: of the pairs in which production was asked twice. A field
    differs if its share is above that of the noise, by more than a fifth of both together, and by more than 0.03 %.
    """
    if not pairs or not differing:
        return False
    raw = differing / pairs
    noise = noisy / noise_pairs if noise_pairs else 0.0
    return raw > noise and (raw - noise) / (raw + noise) > NOISE_RELATIVE and raw - noise > NOISE_ABSOLUTE


def _member(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _are_scores(values: Sequence[object]) -> bool:
    return len(values) > 1 and all(_is_number(value) for value in values)


def _score_differences(
    path: str, field: str, left: Sequence[float], right: Sequence[float], relative: float, absolute: float
) -> list[Difference]:
    differing = [
        Difference(f"{path}[{place}]", f"{field}[]", DifferenceKind.NUMBER, a, b)
        for place, (a, b) in enumerate(zip(left, right, strict=True))
        if not _are_close(a, b, relative, absolute)
    ]
    best = _argmax(left), _argmax(right)
    if differing and best[0] != best[1]:
        return [Difference(path, field, DifferenceKind.ARGMAX, *best), *differing]
    return differing


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda place: -float("inf") if isnan(values[place]) else values[place])


def _difference(left: object, right: object, relative: float, absolute: float) -> DifferenceKind | None:
    if _is_number(left) and _is_number(right):
        return None if _are_close(left, right, relative, absolute) else DifferenceKind.NUMBER  # type: ignore[arg-type]
    if type(left) is not type(right):
        return DifferenceKind.TYPE
    return None if left == right else DifferenceKind.LABEL


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_close(left: float, right: float, relative: float, absolute: float) -> bool:
    if left == right:
        return True
    if isinstance(left, int) and isinstance(right, int) and max(abs(left), abs(right)) >= EXACT_INTEGERS:
        return False
    try:
        left, right = float(left), float(right)
    except OverflowError:
        return False
    if isnan(left) or isnan(right):
        return isnan(left) and isnan(right)
    return abs(left - right) <= absolute + relative * abs(left) < float("inf")
