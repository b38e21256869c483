"""Why a model cannot be served, according to what was read from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from app.artifact.distributions import distribution_of
from app.core.inspection import Inspection, Pin, UnsafeGlobal
from app.errors import BadInput, MissingCode, UnknownPackage, UnsafeArtifact

SHOWN_UNKNOWN: Final = 20


def refuse_unusable(inspection: Inspection, *, has_code: bool, allow_unsafe: bool) -> None:
    """Raise the first of `refusals_of`, if there is any."""
    for refusal in refusals_of(inspection, has_code=has_code, allow_unsafe=allow_unsafe):
        raise refusal


def refusals_of(inspection: Inspection, *, has_code: bool, allow_unsafe: bool) -> Iterator[BadInput]:
    """Yield MissingCode, UnknownPackage and UnsafeArtifact errors if the model cannot be served as it is.

    inspection: with its owner's consent applied, see `with_consent`. has_code: whether the owner supplied code files.
    allow_unsafe: whether the owner consents to what is dangerous.
    """
    if inspection.missing_code and not has_code:
        names = ", ".join(f"`{name}`" for name in inspection.missing_code)
        yield MissingCode(
            f"The model needs {names}, which the script that saved it defines and the file does not contain.",
            hint="Upload that script as `code_files` with the model; it is then loaded in the model's sandbox.",
            missing=list(inspection.missing_code),
            field="code_files",
        )
    if inspection.unknown_modules:
        yield _unknown_modules(inspection.unknown_modules)
    if inspection.unknown_pins:
        yield _unknown_pins(inspection.unknown_pins)
    if inspection.dangers and not allow_unsafe:
        reasons = "; ".join(f"`{danger.name}` ({danger.reason})" for danger in inspection.dangers)
        yield UnsafeArtifact(
            f"Loading the file would use {reasons}.",
            hint=_hint_of_dangers(inspection.dangers),
            dangers=[{"name": danger.name, "reason": danger.reason} for danger in inspection.dangers],
            field="allow_unsafe",
        )


def _hint_of_dangers(dangers: tuple[UnsafeGlobal, ...]) -> str:
    hint = "If you made this file and trust it, upload it with `allow_unsafe=true`; your consent is recorded. "
    if packages := tuple(sorted({danger.package for danger in dangers if danger.package})):
        name = (distribution_of(packages[0]) or packages[0])[:100]
        hint += f"To allow one package only, name it: `--allow-package {name}` (`allow_packages`). "
    return hint + "It still runs in the sandbox."


def _unknown_modules(modules: tuple[str, ...]) -> MissingCode:
    first, names = modules[0][:100], _listed(modules)
    return MissingCode(
        f"The model imports {names}, which is neither in the file nor in a package that PRISM knows: send its code "
        f"(`--code`, `code_files`), or name its package (`--allow-package {first}`, `allow_packages`, or a line of "
        "`requirements`).",
        hint=f"If the package and the module have different names, write `{first}=NAME`. PRISM never searches "
        "the package index for the name of a module.",
        missing=list(modules),
        field="allow_packages",
    )


def _unknown_pins(pins: tuple[Pin, ...]) -> UnknownPackage:
    names = tuple(pin.distribution for pin in pins)
    return UnknownPackage(
        f"The model's own requirements list {_listed(names)}, which PRISM does not know and installs only if you "
        "name it.",
        hint=f"If you trust that package, send `--allow-package {names[0]}` (`allow_packages`), or name it in "
        "`requirements`. Its code runs in the model's sandbox.",
        packages=list(names),
        field="allow_packages",
    )


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name[:100]}`" for name in names[:SHOWN_UNKNOWN])
    return shown + (f" and {len(names) - SHOWN_UNKNOWN} more" if len(names) > SHOWN_UNKNOWN else "")
