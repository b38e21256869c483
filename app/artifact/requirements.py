"""Infers what an environment must have from what was read in an artifact, with evidence for each requirement.

Exact where the artifact is exact, bounded where it gives a bound, open where it says nothing; the owner's word wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from app.artifact.distributions import distribution_of, is_unknown, top_of
from app.core.environment import Requirements
from app.core.inspection import Format, Inspection, Pin, PythonConstraint
from app.errors import BadInput, EnvironmentFailed

if TYPE_CHECKING:
    from app.artifact.formats.onnx import OnnxReading
    from app.artifact.pickles import PickleReading

FIRST_SKLEARN_WITH_NUMPY_2: Final = Version("1.4.2")
"""https://scikit-learn.org/stable/whats_new/v1.4.html#version-1-4-2; older wheels do not say so in their metadata."""

CODE_ARGUMENTS: Final = {15: ">=3.0,<3.8", 16: ">=3.8,<3.11", 18: ">=3.11"}
"""The Pythons by the number of arguments with which they make a code object (`types.CodeType`)."""

NUMBERS_ONLY: Final = re.compile(
    r"(numpy|scipy|joblib|collections|copy_?reg|_codecs)[.:]"
    r"|(builtins|__builtin__)\.(bytearray|complex|dict|float|frozenset|int|list|object|set|slice|tuple)$"
    r"|sklearn\.(_loss|cluster|covariance|cross_decomposition|decomposition|discriminant_analysis|ensemble"
    r"|gaussian_process|isotonic|kernel_ridge|linear_model|metrics|mixture|naive_bayes|neighbors|neural_network"
    r"|pipeline|preprocessing\._data|svm|tree|utils)[.:]"
)
"""Imports that ask for no column by its name and read no text: neither encoders, imputers nor ColumnTransformer."""

OPSETS: Final = {12: "1.3", 13: "1.6", 14: "1.8", 15: "1.9", 16: "1.11", 17: "1.12", 18: "1.14", 19: "1.16"} | {
    20: "1.17",
    21: "1.18",
    22: "1.21",
    23: "1.23",
    24: "1.24",
    25: "1.24",
}
ONNXRUNTIME_FOR_GPU: Final = "onnxruntime-gpu"
ONNXRUNTIMES: Final = frozenset(
    ("onnxruntime", ONNXRUNTIME_FOR_GPU, *(f"onnxruntime-{kind}" for kind in ("openvino", "qnn", "directml", "rocm")))
)
ALTERNATIVE_BUILDS: Final = (ONNXRUNTIMES, frozenset(("xgboost", "xgboost-cpu")))
"""Builds of one module, of which an environment can have one."""

FIRST_ONNXRUNTIME_WITH_CUDA: Final = SpecifierSet(">=1.21")
"""The first onnxruntime that names the CUDA wheels it needs as extras and finds their libraries (`preload_dlls`)."""

ML_OPSETS: Final = {3: "1.12", 4: "1.17", 5: "1.18"}
IR_VERSIONS: Final = {10: "1.18", 11: "1.23", 12: "1.24", 13: "1.24"}
"""The first onnxruntime that takes a file of this version: https://onnxruntime.ai/docs/reference/compatibility.html,
and from 1.15 on tried out, as releases refuse opsets that the page lists (1.15 does 19) and the page ends at 1.20."""


REQUIREMENTS_MAX: Final = 1000
"""Most lines. Each takes some 30 µs to read, in the gateway too."""


def pins_of_pickle(reading: PickleReading, joblib_format: bool) -> tuple[Pin, ...]:
    """Return a pin for each distribution that the pickle's imports need. joblib_format: joblib has to load it."""
    pins: dict[str, Pin] = {}
    if sklearn := _sklearn_pin(reading):
        pins["scikit-learn"] = sklearn
    if numpy := _numpy_pin(reading, sklearn):
        pins["numpy"] = numpy
    for name in reading.globals:
        if distribution := distribution_of(module_of(name)):
            evidence = f"the pickle imports `{name}` but does not say which version"
            pins.setdefault(distribution, Pin(distribution, "", evidence))
    if versions := reading.xgboost_versions:
        evidence = f"the booster in the file is of XGBoost {' and '.join(versions)}"
        pins["xgboost"] = Pin("xgboost", f"=={max(versions, key=Version)}", evidence)
    if reading.has_categories:
        evidence = "LightGBM was trained on categories of pandas (`pandas_categorical`)"
        pins.setdefault("pandas", Pin("pandas", "", evidence))
    if reading.feature_names and not _sees_numbers_only(reading):
        evidence = "`feature_names_in_` shows that it was trained on named columns"
        pins.setdefault("pandas", Pin("pandas", "", evidence))
    if joblib_format:
        pins.setdefault("joblib", Pin("joblib", "", "joblib reads this format"))
    if sklearn and not numpy:
        pins.pop("numpy", None)  # scikit-learn brings it, and knows better which
    return tuple(pins.values())


def unknown_modules_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the top names of the modules of these globals that no known distribution provides."""
    return tuple(sorted({top_of(module) for module in map(module_of, names) if is_unknown(module)}))


def pins_of_compression(compression: str) -> tuple[Pin, ...]:
    """Return the pins for a compression. Of those that joblib reads, only lz4 is not part of Python."""
    return (
        (Pin("lz4", "", "the file is compressed by lz4, which joblib reads with it"),) if compression == "lz4" else ()
    )


def python_need_of(reading: PickleReading) -> PythonConstraint | None:
    """Return the Python that the pickle's code objects were made for; None if it has none."""
    known = [count for count in reading.code_arguments if count in CODE_ARGUMENTS]
    if not known:
        return None
    exact = [specifier for specifier in reading.code_pythons if specifier.startswith("==")]
    if specifiers := exact or reading.code_pythons:
        specifier = ",".join((*specifiers, *(CODE_ARGUMENTS[count] for count in known if count != max(CODE_ARGUMENTS))))
        return PythonConstraint(specifier, f"it holds functions whose bytecode is that of Python {specifier}")
    specifier = ",".join(CODE_ARGUMENTS[count] for count in known)
    counts = " and ".join(map(str, known))
    return PythonConstraint(
        specifier, f"it holds code objects of {counts} arguments, which only Python {specifier} makes"
    )


def pins_of_onnx(reading: OnnxReading) -> tuple[Pin, ...]:
    """Return the pins for onnxruntime, from the first version that takes the file's versions on, and for numpy."""
    versions = (
        ("opset {} of `ai.onnx`", OPSETS, reading.opsets.get("ai.onnx", 0)),
        ("opset {} of `ai.onnx.ml`", ML_OPSETS, reading.opsets.get("ai.onnx.ml", 0)),
        ("IR version {}", IR_VERSIONS, reading.ir_version),
    )
    bounds = [(Version(table[number]), what.format(number)) for what, table, number in versions if number in table]
    runtime = Pin("onnxruntime", "", "it runs ONNX files")
    if bounds:
        first, what = max(bounds)
        runtime = Pin("onnxruntime", f">={first}", f"{what} in the file is first taken by onnxruntime {first}")
    return runtime, Pin("numpy", "", "onnxruntime takes and gives numpy arrays")


def requirements_for(
    inspection: Inspection,
    *,
    user_requirements: str,
    python_version: str,
    available_pythons: tuple[str, ...],
    extra_packages: tuple[str, ...] = (),
    gpu: bool = False,
) -> Requirements:
    """Make the question to the resolver.

    user_requirements: the text of a requirements file; its entries win. extra_packages: wanted by the runtime, unless
    something else names the same distribution. gpu: whether the model is to compute on a GPU.
    Raises BadInput for a line or a `python_version` that cannot be read, EnvironmentFailed if no Python is left.
    """
    given = _given_pins(user_requirements)
    extra = [_pin_of(Requirement(text), "needed by the PRISM runtime") for text in extra_packages]
    read = tuple(map(_for_gpu, inspection.pins)) if gpu and inspection.format is Format.ONNX else inspection.pins
    pins = merge_by_precedence(given, _without_alternative_builds(read, given), extra)
    pythons, evidence = _pythons(inspection.python, _minor(python_version), available_pythons)
    return Requirements(tuple(pin.requirement for pin in pins), pins, pythons, evidence, gpu)


def _for_gpu(pin: Pin) -> Pin:
    """Replace onnxruntime by its build for CUDA, with the libraries of CUDA that an image for Python alone lacks."""
    if canonicalize_name(pin.distribution) != "onnxruntime":
        return pin
    requirement = Requirement(pin.requirement)
    if all(clause.operator == ">=" for clause in requirement.specifier):
        requirement.specifier &= FIRST_ONNXRUNTIME_WITH_CUDA
    requirement.name, requirement.extras = ONNXRUNTIME_FOR_GPU, {"cuda", "cudnn"}
    specifier = str(requirement).removeprefix(ONNXRUNTIME_FOR_GPU)
    return Pin(ONNXRUNTIME_FOR_GPU, specifier, f"{pin.evidence}; `gpu` asks for its build for CUDA")


def _without_alternative_builds(pins: Iterable[Pin], given: Iterable[Pin]) -> tuple[Pin, ...]:
    """Leave out pins of a module in one build where the owner names another build of it."""
    named = {canonicalize_name(pin.distribution) for pin in given}
    passed_over = {build for builds in ALTERNATIVE_BUILDS if not builds.isdisjoint(named) for build in builds}
    return tuple(pin for pin in pins if canonicalize_name(pin.distribution) not in passed_over)


def _sees_numbers_only(reading: PickleReading) -> bool:
    """Return whether columns of numbers in training order serve the model as well as a DataFrame does.

    If so, pandas is not installed: scikit-learn imports any pandas that it finds, 30 MB and 0.3 s of each start.
    """
    return not reading.sets_output and all(map(NUMBERS_ONLY.match, reading.globals))


def module_of(name: str) -> str:
    """Return the module of a global that `read_pickle` names `module.name`, or `module:a.b`."""
    return name.partition(":")[0] if ":" in name else name.rpartition(".")[0]


def _sklearn_pin(reading: PickleReading) -> Pin | None:
    versions = sorted(filter(None, map(_version, reading.sklearn_versions)), reverse=True)
    if not versions:
        return None
    evidence = f"`_sklearn_version` in the file is {versions[0]}"
    if len(versions) > 1:
        evidence = f"`_sklearn_version` in the file is {' and '.join(map(str, versions))}; PRISM uses the newest"
    return Pin("scikit-learn", f"=={versions[0]}", evidence)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _numpy_pin(reading: PickleReading, sklearn: Pin | None) -> Pin | None:
    for module, specifier, generation in (("numpy._core", ">=2", "2"), ("numpy.core", "<2", "1")):
        if name := next((name for name in reading.globals if name.startswith(f"{module}.")), None):
            return Pin("numpy", specifier, f"the pickle imports `{name}`, as numpy {generation} writes it")
    if sklearn and Version(sklearn.specifier[2:]) < FIRST_SKLEARN_WITH_NUMPY_2:
        evidence = f"scikit-learn before {FIRST_SKLEARN_WITH_NUMPY_2} does not run with numpy 2"
        return Pin("numpy", "<2", evidence)
    return None


def merge_by_precedence(*sources: Iterable[Pin]) -> tuple[Pin, ...]:
    """Merge the sources. All pins of a distribution come from the first source that names it."""
    pins: list[Pin] = []
    for source in sources:
        spoken_of = {canonicalize_name(pin.distribution) for pin in pins}
        pins += [pin for pin in source if canonicalize_name(pin.distribution) not in spoken_of]
    return tuple(pins)


def with_requirements(pins: tuple[Pin, ...], text: str, source: str) -> tuple[Pin, ...]:
    """Add the pins of a requirements file that came with the model, which win. Raises BadInput for a wrong line."""
    given = _given_pins(text, f"{source} asks for it", source)
    return merge_by_precedence(given, _without_alternative_builds(pins, given))


def given_names(text: str) -> set[str]:
    """Return the canonical names of the distributions in the owner's requirements. Raises BadInput for a wrong line."""
    return {canonicalize_name(pin.distribution) for pin in _given_pins(text)}


def _given_pins(text: str, evidence: str = "given by the owner", where: str = "the requirements") -> list[Pin]:
    lines = text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines()
    bare = [text for line in lines if (text := re.sub(r"(^|\s)#.*$", "", line).strip())]
    if len(bare) > REQUIREMENTS_MAX:
        hint = "Name those that the model needs; their dependencies are installed automatically."
        raise BadInput(
            f"{where} names {len(bare)} packages, but at most {REQUIREMENTS_MAX} are allowed.",
            hint=hint,
            field="requirements",
        )
    return [_pin_of(_requirement(line, where), evidence) for line in bare]


def _pin_of(requirement: Requirement, evidence: str) -> Pin:
    """Make the pin of a requirement. Extras and markers are part of its specifier: `Pin.requirement` is the whole."""
    return Pin(requirement.name, str(requirement).removeprefix(requirement.name), evidence)


def _requirement(line: str, where: str) -> Requirement:
    """Read a line. Raises BadInput if it is not a name with an optional version."""
    if line.startswith("-"):
        raise _bad_line(
            line, where, "is an option", "Give packages only; package indexes are configured for the whole server."
        )
    if line.startswith((".", "/", "~")) or re.search(r"\.(whl|zip|tar\.gz)$", line.partition(" ")[0]):
        raise _bad_line(
            line, where, "is a path", "Paths have no meaning on the server; send your own code with `--code`."
        )
    try:
        requirement = Requirement(line)
    except (InvalidRequirement, ValueError, RecursionError) as error:
        raise _bad_line(line, where, *_mistake(line)) from error
    if requirement.url:
        raise _bad_line(line, where, *_mistake(line))
    return requirement


def _mistake(line: str) -> tuple[str, str]:
    """Return what is wrong with the line, and how to fix it."""
    if single := re.fullmatch(r"([\w.\-\[\],]+)\s*=\s*([\w.*+!]+)", line):
        return "has a single `=`", f"Did you mean `{single[1]}=={single[2]}`?"
    if versioned := re.fullmatch(r"([\w.\-]+)[\s@]+v?(\d[\w.]*)", line):
        return "is not a requirement", f"Did you mean `{versioned[1]}=={versioned[2]}`?"
    if "://" in line or "@" in line:
        return "is a URL", "Name a package from the index, such as `scikit-learn==1.5.2`."
    return "is not a requirement", "Give one package per line, such as `scikit-learn==1.5.2` or `pandas>=2,<3`."


def _bad_line(line: str, where: str, what: str, hint: str) -> BadInput:
    return BadInput(f"The line `{line[:100]}` of {where} {what}.", hint=hint, field="requirements", line=line[:100])


def _minor(python_version: str) -> str:
    """Return "3.11" for "3.11" and "3.11.7", "" for nothing. Raises BadInput for anything else."""
    text = python_version.strip()
    if not text:
        return ""
    match = re.fullmatch(r"(3\.[0-9]{1,3})(\.[0-9]{1,3})?", text)
    if not match:
        raise BadInput(
            f"`{text[:50]}` is not a version of Python 3.",
            hint="Give a version such as 3.11, or leave it out: PRISM then uses the version that the artifact names.",
            field="python_version",
        )
    return match[1]


def _pythons(need: PythonConstraint | None, wanted: str, available: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the acceptable Pythons of those available, in their order, and why these.

    Raises EnvironmentFailed if none is left.
    """
    allowed = SpecifierSet(need.specifier if need else "")
    left = tuple(python for python in available if python in allowed and wanted in ("", python))
    if left and wanted:
        return left, f"its owner asks for {wanted}"
    if left:
        return left, need.evidence if need else "this server's Python, because the artifact does not name a version"
    needs = [f"its owner asks for {wanted}"] if wanted else []
    needs += [f"the artifact needs {need.specifier} ({need.evidence})"] if need else []
    raise EnvironmentFailed(
        f"No Python fits: {' and '.join(needs) or 'any version fits'}, but this server has {', '.join(available) or 'none'}.",
        hint=_python_hint(need, wanted, allowed),
        available=list(available),
    )


def _python_hint(need: PythonConstraint | None, wanted: str, allowed: SpecifierSet) -> str:
    if need and wanted and wanted not in allowed:
        return "Leave the version of Python out, or save the model with the one that should serve it."
    lacking = wanted or (f"of {need.specifier}" if need else "3.11 or newer")
    return f"Install a Python {lacking} on the server, or deploy to the target `docker`, which brings every version."
