"""Which imports of a pickle could run code of its author's choice when it is loaded.

The verdict is by what is known to be harmless, not by what is known to be bad: lists of bad names are bypassed again
and again. In the libraries that models are made of, classes are let through, and functions by name or by pattern;
of the standard library only what is listed. To be named is one thing, to be called while the file is loaded another:
pickles restore nearly all objects without calling their classes, so only the few rebuilders that real models call may
be called. What is left over needs the owner's consent. A clean verdict is no guarantee either, so every runtime
stands behind walls all the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

from app.core.inspection import Danger
from app.lifecycle.pickles import PickleReading

CLASS_NAME: Final = re.compile(r"_*[A-Z]\w*")

STANDARD: Final = frozenset(
    {
        *("_codecs.encode", "array._array_reconstructor", "array.array", "collections.Counter"),
        *("collections.OrderedDict", "collections.defaultdict", "collections.deque"),
        *("copyreg._reconstructor", "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta"),
        *("datetime.timezone", "decimal.Decimal", "fractions.Fraction", "functools.partial", "logging.getLogger"),
        *("operator.itemgetter", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath"),
        *("pathlib.PureWindowsPath", "pathlib.WindowsPath", "pathlib._local.PosixPath", "random.Random"),
        *("re._compile", "types.SimpleNamespace", "uuid.UUID"),
        *(f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset")),
        *(f"builtins.{name}" for name in ("int", "list", "object", "range", "set", "slice", "str", "tuple")),
        *("builtins.Ellipsis", "builtins.NotImplemented", "builtins.NoneType"),
    }
)
PURE_FUNCTIONS: Final = frozenset(
    f"builtins.{name}" for name in ("abs", "all", "any", "len", "max", "min", "round", "sorted", "sum")
)

NUMPY_FUNCTIONS: Final = frozenset(
    f"numpy.{name}"
    for name in (
        *("abs", "absolute", "add", "all", "any", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2"),
        *("arctanh", "argmax", "argmin", "around", "array", "asarray", "average", "bool", "bool_", "cbrt", "ceil"),
        *("clip", "concatenate", "cos", "cosh", "deg2rad", "degrees", "divide", "dot", "dtype", "exp", "exp2"),
        *("expm1", "float16", "float32", "float64", "floor", "hypot", "int16", "int32", "int64", "int8", "isfinite"),
        *("isinf", "isnan", "log", "log10", "log1p", "log2", "longdouble", "max", "maximum", "mean", "median"),
        *("min", "minimum", "mod", "multiply", "nan_to_num", "nanmax", "nanmean", "nanmedian", "nanmin", "nanstd"),
        *("nansum", "ndarray", "negative", "object_", "percentile", "power", "prod", "quantile", "rad2deg"),
        *("radians", "ravel", "reciprocal", "reshape", "rint", "round", "sign", "sin", "sinh", "sqrt", "square"),
        *("squeeze", "std", "str_", "subtract", "sum", "tan", "tanh", "transpose", "uint16", "uint32", "uint64"),
        *("uint8", "var", "where", "bytes_", "complex128", "complex64", "datetime64", "timedelta64", "matrix"),
    )
)

FUNCTIONS: Final = frozenset(
    {
        "joblib.numpy_pickle.NumpyArrayWrapper",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._interpolate.interp1d",
        "scipy.sparse._coo.coo_matrix",
        "scipy.spatial._ckdtree.cKDTree",
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        *(f"numpy.random._pickle.__{name}_ctor" for name in ("bit_generator", "generator", "randomstate")),
        "numpy.ma.core._mareconstruct",
        *(f"torch._utils._rebuild_{kind}" for kind in ("parameter", "parameter_with_state", "tensor", "tensor_v2")),
        *(f"torch._utils._rebuild_{kind}" for kind in ("qtensor", "sparse_tensor", "meta_tensor_no_storage")),
        *("torch.device", "torch.Size", "torch.serialization._get_layout"),
    }
)

LIBRARIES: Final = {
    "sklearn": re.compile(
        r"sklearn\.(?!datasets|callback|externals|_build_utils|utils\.(_testing|_mocking|parallel)\b)"
    ),
    "numpy": re.compile(r"numpy\.(random|core|_core|ma|dtypes|matrixlib|polynomial)\b"),
    "scipy": re.compile(
        r"scipy\.(sparse|interpolate|stats|spatial|optimize|special|linalg|cluster|signal|integrate)\b"
    ),
    "pandas": re.compile(r"pandas\.(core(?!\.computation)|_libs|arrays)\b|pandas\.(?!HDFStore|Excel)\w+$"),
}
"""Of these libraries, the parts whose classes only hold what a model has learnt; the others open files or more."""

FUNCTION_PARTS: Final = re.compile(
    r"sklearn\.(metrics|feature_selection|cluster|neighbors|preprocessing|gaussian_process)\b[\w.]*\."
    r"(?!import_module|partial|reduce|wraps|exec|eval|open|getattr|setattr|load|dump|attrgetter|methodcaller)[a-z_]\w*"
    r"|sklearn\.utils\.(extmath|validation)\.[a-z]\w*"
    r"|scipy\.special(\._ufuncs)?\.(?!test\b)[a-z]\w*"
    r"|scipy\.sparse\._?[a-z]+\.(csr|csc|coo|bsr|dia|dok|lil)_(matrix|array)"
    r"|lightgbm\.sklearn\.\w+"
    r"|torch\.(b?float|u?int|complex|bool|half|double|long|short|qu?int)[0-9a-z_]*|torch\.nn\.functional\.[a-z]\w*"
    r"|torch\.(relu|sigmoid|tanh|softmax|flatten|squeeze|unsqueeze|exp|log|abs|mean|sum|max|min|cat|stack)"
)

TEST_PARTS: Final = re.compile(r"[\w.]*\.(tests?|testing|testutils|_testing|conftest|_precompute)\b[\w.]*")
"""Modules of tests and tools: they run things, and no model needs them."""

CALLED: Final = re.compile(
    r"sklearn\.tree\._(tree|criterion|splitter)\.[A-Z]\w*|sklearn\._loss\.\w+\.[A-Z]\w*"
    r"|sklearn\.linear_model\._?sgd_fast\.[A-Z]\w*|sklearn\.(neighbors|metrics)\.[\w.]+\.newObj"
    r"|numpy\.random\._\w+\.(MT19937|PCG64|PCG64DXSM|Philox|SFC64)|numpy\.dtypes\.[A-Z]\w*|numpy\.dtype"
    r"|pandas\.core\.internals\.managers\.(Single)?BlockManager|pandas\.(core\.dtypes\.dtypes\.)?[A-Z]\w*Dtype"
    r"|pandas\.(core\.indexes|_libs)\.[\w.]+\.(_new_[A-Z]\w*|_unpickle_\w+|_timedelta_unpickle)"
    r"|pandas\._libs\.(interval\.Interval|tslibs\.offsets\.[A-Z]\w*)"
    r"|pytz\._(UTC|p)|[\w.]+\.__pyx_unpickle_\w+"
)
"""What the pickles of scikit-learn, numpy and pandas call, found by reading those of every estimator."""

CODE_CARRIERS: Final = ("cloudpickle", "dill", "types", "marshal")


def dangers_of(reading: PickleReading) -> tuple[Danger, ...]:
    """What needs consent in the pickle, each with the reason."""
    reasons = {name: danger(name) for name in reading.globals}
    reasons |= {name: danger_of_call(name) for name in reading.called if not reasons.get(name)}
    reasons |= dict.fromkeys(reading.changed, "loading the file changes it for the whole program")
    return tuple(Danger(name, reason) for name, reason in sorted(reasons.items()) if reason)


def missing_code_of(names: Iterable[str]) -> tuple[str, ...]:
    """What the pickle takes from the script that made it, and so is not in the file."""
    return tuple(sorted(name for name in set(names) if name.startswith(("__main__.", "__main__:", "__mp_main__."))))


def danger_of_call(name: str) -> str:
    """Why a harmless import needs consent when it is called, "" if it does not. name: as PickleReading.called says."""
    if (
        name.startswith(("__main__.", "__mp_main__."))
        or name in STANDARD
        or name in FUNCTIONS
        or CALLED.fullmatch(name)
    ):
        return ""
    if name.endswith("()"):
        return "what it gives is called while the file is loaded"
    return "it is called while the file is loaded, and what it does then is not known to be harmless"


def danger(name: str) -> str:
    """Why an import needs consent, "" if it does not."""
    if name.startswith(("__main__.", "__mp_main__.")):
        return ""
    if ":" in name:
        return "a path of attributes reaches things that a plain import does not show"
    if TEST_PARTS.fullmatch(name):
        return "it belongs to the tests and tools of a library, not to what a model needs"
    if name in STANDARD or name in PURE_FUNCTIONS or name in FUNCTIONS or name in NUMPY_FUNCTIONS:
        return ""
    if FUNCTION_PARTS.fullmatch(name) or CALLED.fullmatch(name):
        return ""
    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package in CODE_CARRIERS:
        return "it brings Python code of its own, which runs when it is loaded or asked"
    if package in sys.stdlib_module_names or package in ("builtins", "nt", "posix"):
        return "it is part of Python's standard library, and not of what a model needs"
    if package == "joblib":
        return "joblib can load and run other files"
    if package in LIBRARIES:
        harmless = CLASS_NAME.fullmatch(attribute) and LIBRARIES[package].match(name)
        return "" if harmless or name in TOP_CLASSES else f"it is not known to be harmless among what {package} offers"
    if CLASS_NAME.fullmatch(attribute):
        return ""
    return f"it is a function of `{package}`, and not known to be harmless"


TOP_CLASSES: Final = frozenset({"numpy.rec.recarray", "numpy.record"})
