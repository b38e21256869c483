"""Which imports of a pickle could run code of its author's choice when it is loaded.

The verdict is by what is known to be harmless, not by what is known to be bad: lists of bad names are bypassed again
and again. In the libraries that models are made of, classes are let through, and functions by name or by pattern;
of the standard library only what is listed. What is left over needs the owner's consent. A clean verdict is no
guarantee either, so every runtime stands behind walls all the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

from app.core.inspection import Danger

CLASS_NAME: Final = re.compile(r"_*[A-Z]\w*")
REBUILDER: Final = re.compile(r"__pyx_unpickle_\w+|_?unpickle_\w+|_new_[A-Z]\w*|newObj")

STANDARD: Final = frozenset(
    {
        *("_codecs.encode", "array._array_reconstructor", "array.array", "collections.Counter"),
        *("collections.OrderedDict", "collections.defaultdict", "collections.deque", "copyreg.__newobj__"),
        *("copyreg._reconstructor", "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta"),
        *("datetime.timezone", "decimal.Decimal", "fractions.Fraction", "functools.partial", "logging.getLogger"),
        *("operator.itemgetter", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath"),
        *("pathlib.PureWindowsPath", "pathlib.WindowsPath", "pathlib._local.PosixPath", "random.Random"),
        *("re._compile", "types.SimpleNamespace", "uuid.UUID"),
        *(f"builtins.{name}" for name in ("abs", "all", "any", "bool", "bytearray", "bytes", "complex", "dict")),
        *(f"builtins.{name}" for name in ("float", "frozenset", "int", "len", "list", "max", "min", "object")),
        *(f"builtins.{name}" for name in ("range", "round", "set", "slice", "sorted", "str", "sum", "tuple")),
        *("builtins.Ellipsis", "builtins.NotImplemented", "builtins.NoneType"),
    }
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
        "scipy.sparse._coo.coo_matrix",
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        *(f"numpy.random._pickle.__{name}_ctor" for name in ("bit_generator", "generator", "randomstate")),
        "numpy.ma.core._mareconstruct",
    }
)

LIBRARIES: Final = {
    "sklearn": re.compile(
        r"sklearn\.(?!datasets|utils\._testing|externals|conftest|_build_utils|_loss\.tests|\w*tests?\b)"
    ),
    "numpy": re.compile(r"numpy\.(random|core|_core|ma|dtypes|matrixlib|polynomial)\b"),
    "scipy": re.compile(
        r"scipy\.(sparse|interpolate|stats|spatial|optimize|special|linalg|cluster|signal|integrate)\b"
    ),
    "pandas": re.compile(r"pandas\.(core|_libs)\b"),
}
"""Of these libraries, the parts whose classes only hold what a model has learnt; the others open files or more."""

FUNCTION_PARTS: Final = re.compile(
    r"sklearn\.(metrics|feature_selection|cluster|neighbors|preprocessing|gaussian_process|utils\.extmath)\b[\w.]*\."
    r"(?!import_module|partial|reduce|wraps|exec|eval|open|getattr|setattr|load|dump|attrgetter|methodcaller)[a-z_]\w*"
    r"|scipy\.special(\._ufuncs)?\.[a-z]\w*"
    r"|scipy\.sparse\._?[a-z]+\.(csr|csc|coo|bsr|dia|dok|lil)_(matrix|array)"
    r"|lightgbm\.sklearn\.\w+"
)

CODE_CARRIERS: Final = ("cloudpickle", "dill", "types", "marshal")


def dangers_of(names: Iterable[str]) -> tuple[Danger, ...]:
    """The imports that need consent, each with the reason. names: as `pickles.read_pickle` gives them."""
    judged = ((name, danger(name)) for name in sorted(set(names)))
    return tuple(Danger(name, reason) for name, reason in judged if reason)


def missing_code_of(names: Iterable[str]) -> tuple[str, ...]:
    """What the pickle takes from the script that made it, and so is not in the file."""
    return tuple(sorted(name for name in set(names) if name.startswith(("__main__.", "__main__:", "__mp_main__."))))


def danger(name: str) -> str:
    """Why an import needs consent, "" if it does not."""
    if name.startswith(("__main__.", "__mp_main__.")):
        return ""
    if ":" in name:
        return "a path of attributes reaches things that a plain import does not show"
    if name in STANDARD or name in FUNCTIONS or name in NUMPY_FUNCTIONS or FUNCTION_PARTS.fullmatch(name):
        return ""
    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package in CODE_CARRIERS:
        return "it brings Python code of its own, which runs when it is loaded or asked"
    if package in sys.stdlib_module_names or package in ("builtins", "nt", "posix"):
        return "it is part of Python's standard library, and not of what a model needs"
    if REBUILDER.fullmatch(attribute):
        return ""
    if package == "joblib":
        return "joblib can load and run other files"
    if package in LIBRARIES:
        harmless = CLASS_NAME.fullmatch(attribute) and LIBRARIES[package].match(name)
        return "" if harmless or name in TOP_CLASSES else f"it is not known to be harmless among what {package} offers"
    if CLASS_NAME.fullmatch(attribute):
        return ""
    return f"it is a function of `{package}` that runs when the file is loaded, and is not known to be harmless"


TOP_CLASSES: Final = frozenset(
    f"pandas.{name}" for name in ("DataFrame", "Series", "Index", "RangeIndex", "CategoricalDtype", "Timestamp")
)
