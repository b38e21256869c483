"""Why a model cannot be served, according to what was read from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from app.artifact.distributions import distribution_of
from app.artifact.requirements import module_of
from app.core.inspection import MODULE_OF_WEIGHTS, Inspection, Pin, UnsafeGlobal
from app.errors import BadInput, MissingCode, UnknownPackage, UnsafeArtifact

SHOWN_UNKNOWN: Final = 20


def refuse_unusable(inspection: Inspection, *, allow_unsafe: bool, code_files: tuple[str, ...] = ()) -> None:
    """Raise the first of `refusals_of`, if there is any."""
    for refusal in refusals_of(inspection, allow_unsafe=allow_unsafe, code_files=code_files):
        raise refusal


def refusals_of(inspection: Inspection, *, allow_unsafe: bool, code_files: tuple[str, ...] = ()) -> Iterator[BadInput]:
    """Yield MissingCode, UnknownPackage and UnsafeArtifact errors if the model cannot be served as it is.

    inspection: with the owner's code and consent applied, see `Inspected.with_code` and `with_consent`. allow_unsafe:
    whether the owner consents to what is dangerous. code_files: names of the code that came.
    """
    if inspection.missing_code:
        yield _missing_code(inspection.missing_code, code_files)
    if inspection.unknown_modules:
        yield _unknown_modules(inspection.unknown_modules, inspection.globals)
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
    hint = "If you made this file and trust it, consent to loading it (`--allow-unsafe`); your consent is recorded. "
    if packages := tuple(sorted({danger.package for danger in dangers if danger.package})):
        name = (distribution_of(packages[0]) or packages[0])[:100]
        hint += f"To allow one package only, name it: `--allow-package {name}`. "
    return hint + "It still runs in the sandbox."


def _missing_code(names: tuple[str, ...], code_files: tuple[str, ...]) -> MissingCode:
    if MODULE_OF_WEIGHTS in names:
        return MissingCode(
            "The file holds the weights of a PyTorch module and not the module: send the script that defines it with "
            "`--code`.",
            hint="A class derived from `torch.nn.Module`, or a function `build_model()` that makes one. Or save the whole model, "
            "with `torch.export.save` or `torch.jit.save`.",
            missing=list(names),
            field="code_files",
        )
    if modules := tuple(name for name in names if not name.startswith("__main__")):
        return MissingCode(
            f"The model imports {_listed(modules)}, which is not among the code that came with it: send it with "
            "`--code`, or the folder that holds it.",
            hint="A file keeps the folders in front of its name, such as `src/features.py` for `src.features`.",
            missing=list(modules),
            field="code_files",
        )
    where = f"{_listed(code_files)} does not either" if code_files else "the file does not contain"
    return MissingCode(
        f"The model needs {_listed(names)}, which the script that saved it defines and {where}: send that script with "
        "`--code`.",
        hint="Only its definitions are used, in the model's sandbox: the rest of the script does not run.",
        missing=list(names),
        field="code_files",
    )


def _unknown_modules(modules: tuple[str, ...], imports: tuple[str, ...]) -> MissingCode:
    first = modules[0][:100]
    deeper = any(name.startswith(f"{modules[0]}.") and "." in module_of(name) for name in imports)
    code = f"the folder {first}" if deeper else f"{first}.py"
    return MissingCode(
        f"The model imports {_listed(modules)}, which is not in the file: send {code} with `--code`, or push "
        "the folder that holds the model and its code.",
        hint=f"If it is a package from the index, allow it by name: `--allow-package {first}`, or "
        f"`{first}=NAME` if the package is named otherwise. PRISM never searches the index for the name of a module.",
        missing=list(modules),
        field="allow_packages",
    )


def _unknown_pins(pins: tuple[Pin, ...]) -> UnknownPackage:
    names = tuple(pin.distribution for pin in pins)
    return UnknownPackage(
        f"The model's own requirements list {_listed(names)}, which PRISM does not know and installs only if you "
        "name it.",
        hint=f"If you trust that package, allow it (`--allow-package {names[0]}`), or name it in "
        "your requirements. Its code runs in the model's sandbox.",
        packages=list(names),
        field="allow_packages",
    )


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name[:100]}`" for name in names[:SHOWN_UNKNOWN])
    return shown + (f" and {len(names) - SHOWN_UNKNOWN} more" if len(names) > SHOWN_UNKNOWN else "")
