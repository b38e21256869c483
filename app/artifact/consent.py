"""Applies what the owner of an upload vouches for: code that he sends, and packages that he names.

Nothing is installed from the index by a name that only the artifact brings along. Known distributions are
(`distributions`); for every other package the owner sends the code, names it in `requirements`, or allows it in
`allow_packages`. What the artifact's own files say, `requirements.txt` among them, is no word of his.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, structs
from packaging.utils import canonicalize_name

from app.artifact.distributions import distribution_of, is_known
from app.artifact.requirements import given_names
from app.core.inspection import Inspection, Pin
from app.errors import BadInput

DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
MODULE: Final = re.compile(r"[^\W\d]\w{0,99}")
ALLOWED_MAX: Final = 100


class Word(Struct, frozen=True):
    """The owner's word.

    supplied: modules whose code he sent. allowed, required: canonical names of the distributions that he allowed and
    that his requirements name. mapped: which distribution a module is in, where he said so.
    """

    supplied: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    mapped: Mapping[str, str] = {}

    def provides(self, module: str) -> bool:
        """Return whether a module, by its top name, is the owner's code or in a package that he named."""
        return module in self.supplied or canonicalize_name(self.distribution(module)) in self.allowed | self.required

    def vouches(self, module: str) -> bool:
        """Return whether a module's classes count as harmless.

        A requirement does not make them so: it says what to install, not what a file may do with it.
        """
        return module in self.supplied or canonicalize_name(self.distribution(module)) in self.allowed

    def distribution(self, module: str) -> str:
        """Return the distribution of a module: by the owner's word, else by the table, else by the module's name."""
        return self.mapped.get(module) or distribution_of(module) or module


def allowed_packages(given: Iterable[str]) -> tuple[str, ...]:
    """Return the entries `distribution` or `module=distribution`, each once.

    given: texts that separate entries by commas or white space.

    Raises BadInput for one that is neither.
    """
    entries = dict.fromkeys(entry for text in given for entry in re.split(r"[\s,]+", text) if entry)
    if len(entries) > ALLOWED_MAX:
        raise BadInput(f"More than {ALLOWED_MAX} packages are allowed by name.", field="allow_packages")
    for entry in entries:
        module, _, distribution = entry.rpartition("=")
        if not DISTRIBUTION.fullmatch(distribution) or (module and not MODULE.fullmatch(module)):
            raise BadInput(
                f"`{entry[:100]}` is not the name of a package to allow.",
                hint="Give `NAME`, or `MODULE=NAME` if the package and the imported module have different names; versions "
                "go into the requirements.",
                field="allow_packages",
            )
    return tuple(entries)


def word_of(allowed: Iterable[str], requirements: str, code_files: Iterable[str]) -> Word:
    """Make the owner's word. allowed: as `allowed_packages` returns it. Raises BadInput for unreadable requirements."""
    pairs = [(module, distribution) for module, _, distribution in (entry.rpartition("=") for entry in allowed)]
    return Word(
        supplied=frozenset(Path(name).stem for name in code_files),
        allowed=frozenset(canonicalize_name(name) for _, name in pairs),
        required=frozenset(given_names(requirements)),
        mapped={module: distribution for module, distribution in pairs if module},
    )


def with_consent(inspection: Inspection, word: Word) -> Inspection:
    """Return the inspection in the light of the owner's word: what he vouches for needs no more consent."""
    named = word.allowed | word.required
    read = (*inspection.pins, *inspection.unknown_pins)
    pins = [pin for pin in read if is_known(pin.distribution) or canonicalize_name(pin.distribution) in named]
    asked_for = {canonicalize_name(pin.distribution) for pin in pins}
    for module in inspection.unknown_modules:
        name = word.distribution(module)
        if module not in word.supplied and canonicalize_name(name) in named - asked_for:
            pins.append(Pin(name, "", f"the owner named it for `{module}`"))
    installed = set(pins)
    return structs.replace(
        inspection,
        pins=tuple(pins),
        unknown_pins=tuple(pin for pin in read if pin not in installed),
        unknown_modules=tuple(module for module in inspection.unknown_modules if not word.provides(module)),
        dangers=tuple(
            danger for danger in inspection.dangers if not danger.package or not word.vouches(danger.package)
        ),
    )


def packages_to_allow(inspection: Inspection) -> dict[str, str]:
    """Return the names that the owner may allow, each with a sentence on what asks for it.

    inspection: as `with_consent` returns it.
    """
    reasons = {module: f"The file imports `{module}`." for module in inspection.unknown_modules}
    for danger in inspection.dangers:
        if danger.package:
            reasons.setdefault(distribution_of(danger.package) or danger.package, f"The file uses `{danger.name}`.")
    return reasons | {pin.distribution: f"Its {pin.evidence}." for pin in inspection.unknown_pins}
