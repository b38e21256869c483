"""The symbols that stand on the symbolic stack in place of objects, and what can be told of them."""

from __future__ import annotations

import re
from typing import Any, Final

MAX_TEXT_BYTES: Final = 1024  # longer than any module, class or column name that matters

NOTABLE_KEYS: Final = frozenset(
    {"_sklearn_version", "feature_names_in_", "n_features_in_", "_n_features", "_sklearn_output_config", "formula"}
    | {"shape", "dtype", "numpy_array_alignment_bytes", "subclass", "order", "allow_mmap"}
)
ARRAY_WRAPPER: Final = "joblib.numpy_pickle.NumpyArrayWrapper"
KEEPERS: Final = frozenset({"functools.partial", "collections.defaultdict"})
"""Callables that keep the functions that they are given, and call them later."""
STORES_ARGUMENTS: Final = KEEPERS | {"numpy.dtype", "numpy.ma.core._mareconstruct"}
"""Callables that call nothing they are given while the file is loaded, or only make instances with `__new__`."""
RETURNS_ARGUMENTS: Final = frozenset({"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"})
"""Callables that may return what they are given, which would then be changed under two names."""
RECONSTRUCTORS: Final = re.compile(
    r"numpy\.(core|_core)\.(multiarray\._reconstruct|numeric\._frombuffer)"
    r"|pandas\.[\w.]*\._new_\w+|pandas\.[\w.]*Dtype|sklearn\.[\w.]+\.newObj|[\w.]+\.__pyx_unpickle_\w+|cloudpickle\.[\w.]+"
)
OLD_WRAPPERS: Final = frozenset(
    {"joblib.numpy_pickle_compat.NDArrayWrapper", "joblib.numpy_pickle_compat.ZNDArrayWrapper"}
    | {"joblib.numpy_pickle.NDArrayWrapper", "joblib.numpy_pickle.ZNDArrayWrapper"}
    | {"sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper"}
)
NEW_OBJECT: Final = re.compile(r"sklearn\.[\w.]+\.newObj|[\w.]+\.__pyx_unpickle_\w+")
"""Functions that call `__new__` of their first argument. Unless that is a class, any attribute could be called."""
HOOKS: Final = frozenset({"__setstate__", "__new__"})
"""Attributes that an object may have of its own, and that are called while the file is loaded."""
WIDTHS_MAX: Final = 16  # numbers of columns that are remembered
HAS_OBJECTS: Final = 1  # NPY_ITEM_REFCOUNT, a flag of numpy's dtypes


class Opaque:
    """A value that does not matter."""


class Mark:
    """The mark on the stack where a variable number of arguments begins."""


class Global:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class CallResult:
    """The result of a call: `callable(*args)`, then `state` as BUILD sets it.

    has_items: entries were set by key. has_state: it may have attributes of the pickle's choice by now.
    """

    __slots__ = ("args", "callable", "has_items", "has_state", "state")

    def __init__(self, made_by: Any, args: Any) -> None:
        self.callable = made_by
        self.args = args
        self.state: Any = None
        self.has_items = False
        self.has_state = _is_given_state(origin_of_call(made_by), args) or _may_be_another(made_by, args)


class TrackedDict:
    """The notable keys of a dict. clean: it has no others. has_computed_keys: a call gave a key, which may be text."""

    __slots__ = ("clean", "has_computed_keys", "items")

    def __init__(self) -> None:
        self.items: dict[str, Any] | None = None
        self.clean = True
        self.has_computed_keys = False

    def set(self, key: Any, value: Any) -> None:
        if type(key) is str and key in NOTABLE_KEYS:
            self.items = self.items or {}
            self.items[key] = value
        else:
            self.clean = False


OPAQUE: Final = Opaque()
MARK: Final = Mark()


class UnknownDtypeError(Exception):
    """The error for an array the size of whose items cannot be told for certain."""


def item_bytes(args: Any, state: Any) -> int | None:
    """Return the size of one item of `numpy.dtype(*args)` after `__setstate__(state)`; None for objects.

    Raises UnknownDtypeError for what is not certain: the length of an array would be a guess.
    See numpy's `arraydescr_setstate`: the state's item size counts for S, U and V, its flag 1 says objects.
    """
    code = args[0] if isinstance(args, tuple) and args else None
    match = re.fullmatch(r"([biufcmMSUVO])(\d*)", code) if type(code) is str else None
    if match is None:
        raise UnknownDtypeError
    kind, digits = match[1], match[2]
    size = int(digits or 0) * (4 if kind == "U" else 1)
    flags = HAS_OBJECTS if kind == "O" else 0
    if state is not None:
        if not isinstance(state, tuple) or len(state) not in (8, 9) or type(state[7]) is not int:
            raise UnknownDtypeError
        if state[0] not in (3, 4):  # in older versions numpy computes the flags itself
            raise UnknownDtypeError
        if kind in "SUV" and state[5] != size:
            raise UnknownDtypeError
        flags = state[7]
    objects = bool(flags & HAS_OBJECTS)
    if (kind == "O") is not objects and kind != "V":
        raise UnknownDtypeError
    if not objects and not size:
        raise UnknownDtypeError
    return None if objects else size


def is_global(value: Any, name: str) -> bool:
    return isinstance(value, Global) and value.name == name


def is_wrapper(value: Any) -> bool:
    """Return whether a value is joblib's wrapper class or an instance of it."""
    return is_global(value, ARRAY_WRAPPER) or (type(value) is CallResult and is_global(value.callable, ARRAY_WRAPPER))


def is_content(value: Any) -> bool:
    """Return whether a value is text or bytes. Before protocol 3 bytes are `_codecs.encode(text, "latin1")`."""
    if isinstance(value, CallResult):
        return origin(value) in ("_codecs.encode", "builtins.bytes")
    return value is OPAQUE or isinstance(value, (str, bytes))


def may_be_text(value: Any) -> bool:
    """Return whether a call may have given text: anything but a scalar of numpy's that is a number or a time."""
    if not isinstance(value, CallResult):
        return False
    dtype = value.args[0] if origin(value) in RETURNS_ARGUMENTS and value.args else None
    code = dtype.args[0] if isinstance(dtype, CallResult) and dtype.args else ""
    return re.fullmatch(r"[biufcmM]\d*", code if type(code) is str else "") is None


def is_plain_dtype(dtype: CallResult) -> bool:
    """Return whether a dtype was made as numpy writes it, a copy of its own: `dtype(text or class, False, True)`."""
    args = dtype.args
    return len(args) == 3 and type(args[0]) in (str, Global) and args[1] in (False, 0) and args[2] in (True, 1)


def origin(value: Any) -> str:
    while isinstance(value, CallResult):
        value = value.callable
    return value.name if isinstance(value, Global) else "?"


def origin_of_call(made_by: Any) -> str:
    """Return the name of what was called, "" where that was itself made by a call."""
    return made_by.name if isinstance(made_by, Global) else ""


def _is_given_state(function: str, args: Any) -> bool:
    """Return whether a call sets attributes on what it makes, or unseen entries that may pass for attributes."""
    state = args[2] if isinstance(args, tuple) and len(args) > 2 else None
    if "__pyx_unpickle_" in function:
        return state is not None
    if function == "copyreg._reconstructor":
        return isinstance(state, CallResult) or (isinstance(state, TrackedDict) and state.has_computed_keys)
    return function == "torch._utils._rebuild_parameter_with_state"


def _may_be_another(made_by: Any, args: Any) -> bool:
    """Return whether a class, e.g. pandas' PeriodDtype, may return the instance of it that it is given."""
    name = origin_of_call(made_by)
    return name not in KEEPERS and any(
        type(arg) is CallResult and arg.has_state and origin(arg).rpartition(".")[2] == name.rpartition(".")[2]
        for arg in args
    )


def callables(value: Any) -> set[str]:
    """Return what a call of `value` would call, as PickleReading.called names it."""
    if isinstance(value, Global):
        return {value.name}
    return {f"{origin(value)}()"} if isinstance(value, CallResult) and origin(value) not in RETURNS_ARGUMENTS else set()


def callable_arguments(function: str, args: tuple[Any, ...]) -> set[str]:
    """Return the globals among the arguments that `function` may call in turn.

    copyreg._reconstructor(cls, base, state) makes a `cls`, but calls `base.__init__`; numpy's rebuilders of random
    generators call their second argument.
    """
    if function in STORES_ARGUMENTS or RECONSTRUCTORS.fullmatch(function):
        return set()
    called = {value.name for value in args if isinstance(value, Global)}
    if function == "copyreg._reconstructor":
        called = {origin(value) for value in args[1:2]} | {
            f"{origin(value)}()" for value in args[:1] if type(value) is CallResult
        }
    elif function.startswith("numpy.random."):
        called |= {f"{origin(value)}()" for value in args[1:] if type(value) is CallResult}
    return called


def kept(keeper: str, args: tuple[Any, ...]) -> set[str]:
    """Return the arguments that `keeper` will call later: `module.name`, or `module.name()` for what a call gave."""
    values = args if keeper == "functools.partial" else args[:1]
    return {value.name for value in values if isinstance(value, Global)} | {
        f"{origin(value)}()" for value in args[:1] if isinstance(value, CallResult)
    }


def is_code_type(made_by: Any) -> bool:
    if isinstance(made_by, CallResult):  # cloudpickle names it so
        is_builtin_type = isinstance(made_by.callable, Global) and made_by.callable.name.endswith("._builtin_type")
        return is_builtin_type and made_by.args == ("CodeType",)
    return isinstance(made_by, Global) and made_by.name in ("types.CodeType", "builtins.code")


def strings_of_array(value: Any) -> tuple[str, ...]:
    """Return the strings of a pickled object array: the list that its state ends with."""
    if isinstance(value, CallResult) and isinstance(value.state, tuple) and isinstance(value.state[-1], list):
        return tuple(item for item in value.state[-1] if type(item) is str)
    return ()


KINDS_OF_DATA: Final = (
    (re.compile(r"pandas\.(core\.frame\.)?DataFrame"), "a pandas DataFrame"),
    (re.compile(r"pandas\.(core\.series\.)?Series"), "a pandas Series"),
    (re.compile(r"numpy\.(core|_core)\.(multiarray\.(_reconstruct|scalar)|numeric\._frombuffer)"), "a numpy array"),
    (re.compile(r"scipy\.sparse\.[\w.]+"), "a sparse matrix"),
    (re.compile(r"collections\.(OrderedDict|defaultdict|Counter)"), "a dict"),
    (re.compile(r"builtins\.(set|frozenset|bytearray)"), "a set or bytes"),
)
"""What a call makes → what that is. None of it is a model."""


def kind_of_data(value: Any) -> str:
    """Return what a value is if it is data and no model, such as "a dict"; otherwise "\""."""
    if type(value) in (TrackedDict, list, tuple, str, bool, int):
        return {TrackedDict: "a dict", list: "a list", tuple: "a tuple", str: "a text"}.get(type(value), "a number")
    if type(value) is not CallResult:
        return ""
    made_by = origin(value.callable)
    if made_by == "copyreg._reconstructor" and type(value.args) is tuple and value.args:
        made_by = origin(value.args[0])
    return next((kind for pattern, kind in KINDS_OF_DATA if pattern.fullmatch(made_by)), "")
