"""Finds the imports of a pickle that could run code of its author's choice when it is loaded, or asked.

The verdict is by what is known to be harmless, not by what is known to be bad: lists of bad names are bypassed again
and again. In packages that are known to hold models, classes are let through, and functions by name; of the standard
library only what is listed. To be named is one thing, to be called while the file is loaded another: pickles restore
nearly all objects without calling their classes, so only the few rebuilders that real models call may be called. What
is kept to be called later (`functools.partial`) must be a function that is known to compute and nothing else. What is
left over needs the owner's consent. A clean verdict is no guarantee either, so every runtime is sandboxed all
the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

from app.artifact.distributions import is_unknown
from app.artifact.harmless_globals import (
    ALIASES,
    CALLED,
    CLASS_NAME,
    CONTAINERS,
    FUNCTION_PARTS,
    FUNCTIONS,
    MODEL_CLASSES,
    OTHER_KINDS,
    PLAIN_FORMULA,
    REBUILDERS,
    STANDARD,
    TEST_PARTS,
)
from app.artifact.pickles import PickleReading
from app.core.inspection import UnsafeGlobal

CODE_CARRIERS: Final = ("cloudpickle", "dill", "types", "marshal")
OF_THE_SCRIPT: Final = ("__main__.", "__mp_main__.")
DUNDER: Final = re.compile(r"(?:.*[.:])?__\w+__(?:[.:].*)?")
EVALUATES: Final = ("statsmodels.", "patsy.", "formulaic.")
"""Packages whose models hold a formula, which is evaluated as Python when they are loaded."""

DISTRIBUTION: Final = re.compile(
    r"scipy\.stats\.(_distn_infrastructure\.rv_\w+|_(continuous|discrete)_distns\.\w+_gen)"
)
"""Classes whose `__setstate__` runs a text of the pickle (`_parse_arg_template`)."""

MAKES_TEXT: Final = frozenset({"builtins.str", "builtins.dict", "collections.OrderedDict", "collections.defaultdict"})
OF_UNKNOWN_PACKAGE: Final = "its package is not known to hold models"
FUNCTION_OF_UNKNOWN_PACKAGE: Final = "it is a function, and its package is not known to hold models"
UNKNOWN: Final = (OF_UNKNOWN_PACKAGE, FUNCTION_OF_UNKNOWN_PACKAGE)
SHOWN_FORMULA: Final = 100


def dangers_of(reading: PickleReading) -> tuple[UnsafeGlobal, ...]:
    """Return everything in the pickle that needs consent, each with the reason."""
    reasons = {name: danger(name) for name in reading.globals}
    for names, judged in ((reading.called, danger_of_call), (reading.held, danger_of_holding)):
        for name in names:
            if reasons.get(name) in (None, "", *UNKNOWN):
                reasons[name] = judged(name) or reasons.get(name, "")
    reasons |= dict.fromkeys(reading.changed, "loading the file changes it for the whole program")
    reasons |= _of_formulas(reading)
    return tuple(
        UnsafeGlobal(
            name,
            reason,
            package=_package(name) if reason == OF_UNKNOWN_PACKAGE else "",
            is_function=reason == FUNCTION_OF_UNKNOWN_PACKAGE,
        )
        for name, reason in sorted(reasons.items())
        if reason
    )


def missing_code_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that the pickle takes from the script that made it; their code is not in the file."""
    return tuple(sorted(name for name in set(names) if name.startswith((*OF_THE_SCRIPT, "__main__:"))))


def danger_of_call(name: str) -> str:
    """Return why a harmless import needs consent to be called, "" if it does not. name: as in PickleReading.called."""
    if name.startswith(OF_THE_SCRIPT) or name in STANDARD or name in REBUILDERS or CALLED.fullmatch(name):
        return ""
    if name.endswith("()"):
        return "what it returns is called while the file is loaded"
    return "it is called while the file is loaded, and is not known to be harmless then"


def danger_of_holding(name: str) -> str:
    """Return why a harmless import needs consent where `functools.partial` or the like is to call it later.

    Returns "" if it needs none. name: as in PickleReading.held.
    """
    if name == "functools.partial()" or name.startswith(OF_THE_SCRIPT):
        return ""
    if name in CONTAINERS or name in REBUILDERS or _is_function(name):
        return ""
    return "it is stored to be called later, and is not a function known to be harmless"


def danger(name: str) -> str:
    """Return why an import needs consent, "" if it does not."""
    script = next((start for start in OF_THE_SCRIPT if name.startswith(start)), "")
    if DUNDER.fullmatch(name.removeprefix(script)):
        return "an internal name of Python gives access to everything that Python can do"
    if script:
        return ""
    if ":" in name:
        return "a path of attributes reaches objects that a plain import does not show"
    if TEST_PARTS.fullmatch(name):
        return "it belongs to the tests and tools of a library, not to what a model needs"
    module, _, attribute = name.rpartition(".")
    if attribute in ALIASES and name not in STANDARD:
        return "it has the name of a tool that starts, opens or imports things, and is not a model class"
    if name in STANDARD or name in REBUILDERS or _is_function(name) or OTHER_KINDS.fullmatch(name):
        return ""
    return "" if CALLED.fullmatch(name) else _danger_in_package(name, module.partition(".")[0], attribute)


def _danger_in_package(name: str, package: str, attribute: str) -> str:
    if package in CODE_CARRIERS:
        return "it contains Python code of its own, which runs when it is loaded or called"
    if package in sys.stdlib_module_names or package in ("builtins", "nt", "posix"):
        return "it is part of Python's standard library, and not of what a model needs"
    if package == "joblib":
        return "joblib can load and run other files"
    if DISTRIBUTION.fullmatch(name):
        return "it is a distribution, which holds code as text; of a search over distributions, save `search.best_estimator_`"
    if not CLASS_NAME.fullmatch(attribute) and is_unknown(package):
        return FUNCTION_OF_UNKNOWN_PACKAGE
    if not CLASS_NAME.fullmatch(attribute):
        return f"it is neither a class nor a function of `{package}` that is known to be harmless"
    if package not in MODEL_CLASSES:
        return OF_UNKNOWN_PACKAGE
    return "" if MODEL_CLASSES[package].match(name) else f"it is not known to be harmless among what {package} offers"


def _is_function(name: str) -> bool:
    """Return whether this names a function that is known to compute and do nothing else."""
    return name in FUNCTIONS or FUNCTION_PARTS.fullmatch(name) is not None


def _package(name: str) -> str:
    return name.partition(".")[0]


def _of_formulas(reading: PickleReading) -> dict[str, str]:
    """Return formulas that are more than columns and a few functions of numpy, or cannot be read, with the reason."""
    if not any(name.startswith(EVALUATES) for name in reading.globals):
        return {}
    formulas = {formula for formula in reading.formulas if not PLAIN_FORMULA.fullmatch(formula)}
    if reading.computed_keys or not MAKES_TEXT.isdisjoint(reading.called):
        formulas.add("")
    reason = "a formula is evaluated as Python when the file is loaded, and this one does more than use columns"
    return {formula[:SHOWN_FORMULA] or "formula": reason for formula in formulas}
