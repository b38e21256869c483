"""Aliases: names that lead to a version of a model, such as `champion`, and are moved from version to version."""

from __future__ import annotations

import re

from msgspec import Struct

from app.errors import BadInput

FORM = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}", re.ASCII)
RESERVED = re.compile(r"latest|v[0-9]+", re.ASCII | re.IGNORECASE)
"""What other registries understand as a version: an alias of that name would be mistaken for one."""


class Alias(Struct, frozen=True):
    """An alias and where it leads. generation: counts its changes, from 1, also across a deletion."""

    name: str
    alias: str
    model_id: str
    generation: int
    updated_at: str
    updated_by: str = ""

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.alias}"


class AliasChange(Struct, frozen=True):
    """One change of an alias. model_id: where it has led since; "" if it was deleted. by: caller's name."""

    name: str
    alias: str
    generation: int
    model_id: str
    at: str
    by: str = ""


def check_alias(alias: str) -> str:
    """Return an alias that a person gave. Raises BadInput for one that is reserved or could be taken for a version."""
    if RESERVED.fullmatch(alias):
        raise BadInput(
            f"`{alias[:70]}` cannot be an alias: it would be taken for a version.",
            hint="Choose a word for what the version is for, such as champion or staging.",
            field="alias",
        )
    if not FORM.fullmatch(alias):
        raise BadInput(
            f"`{alias[:70]}` cannot be an alias.",
            hint="An alias begins with a letter and has at most 63 letters, digits, `_` and `-`.",
            field="alias",
        )
    return alias
