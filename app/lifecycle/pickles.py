"""Reads a pickle to its end without running it: which globals it imports, and what it says of its libraries.

A pickle is a program for a small stack machine. This is that machine with symbols in place of objects: it follows
the stack and the memo far enough to know every import and the few values that matter, and calls nothing. joblib
files are such programs with raw array bytes in between: where joblib would read an array, exactly as many bytes are
passed over here.

Whoever wrote the file may be hostile. Two readers that disagree on where an opcode begins see two different
programs, so wherever this one could part from Python's own (frames, array lengths, computed names) the file is
refused. Opcodes: Python's `pickletools`; arrays: joblib's `numpy_pickle.NumpyArrayWrapper.read_array`.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from app.errors import UnreadableArtifact
from app.lifecycle.bytecode import python_of
from app.lifecycle.compression import Stream

MAX_OPCODES: Final = 100_000_000  # about a minute and a half
MAX_OBJECTS: Final = 10_000_000  # on the stack, in the memo and made: about 1 GB of this process
MAX_TEXTS_BYTES: Final = 256 << 20  # of all short texts together, each of which the memo may keep
MAX_TEXT_BYTES: Final = 1024  # longer than any module, class or column name that matters
MAX_LINE_BYTES: Final = 1 << 20
MAX_KEPT: Final = 4096  # items of a list or tuple that are remembered

NOTABLE_KEYS: Final = frozenset(
    {"_sklearn_version", "feature_names_in_"}
    | {"shape", "dtype", "numpy_array_alignment_bytes", "subclass", "order", "allow_mmap"}
)
ARRAY_WRAPPER: Final = "joblib.numpy_pickle.NumpyArrayWrapper"
HOLDERS: Final = frozenset(
    {"numpy.dtype", "functools.partial", "collections.defaultdict", "numpy.ma.core._mareconstruct"}
)
"""They keep the functions and classes that they are given, or only make instances with `__new__`."""
RETURNERS: Final = frozenset({"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"})
"""They may give back what they are given, which would then be changed under two names."""
REBUILDERS: Final = re.compile(
    r"numpy\.(core|_core)\.(multiarray\._reconstruct|numeric\._frombuffer)"
    r"|pandas\.[\w.]*\._new_\w+|pandas\.[\w.]*Dtype|sklearn\.[\w.]+\.newObj|[\w.]+\.__pyx_unpickle_\w+|cloudpickle\.[\w.]+"
)
OLD_WRAPPERS: Final = frozenset(
    {"joblib.numpy_pickle_compat.NDArrayWrapper", "joblib.numpy_pickle_compat.ZNDArrayWrapper"}
    | {"joblib.numpy_pickle.NDArrayWrapper", "joblib.numpy_pickle.ZNDArrayWrapper"}
    | {"sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper"}
)


class PickleReading(Struct, frozen=True):
    """What the walk found.

    globals: sorted `module.name` of every import, `module:a.b` where the name is a path of attributes. sklearn_versions: values of `_sklearn_version`.
    feature_names: of the outermost `feature_names_in_`. code_arguments: with how many arguments code objects are made,
    which tells the Python that made them; code_pythons: specifiers, as their bytecode tells it. arrays: how many joblib arrays were passed over.
    called: those of the globals that are called, or handed to something that is; `module.name()` where what a call
    gave is called in turn. changed: those that are changed in place, as no pickle of a model does.
    """

    protocol: int
    globals: tuple[str, ...]
    called: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    sklearn_versions: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    code_arguments: tuple[int, ...] = ()
    code_pythons: tuple[str, ...] = ()
    arrays: int = 0
    joblib: bool = False


class _Opaque:
    """A value that does not matter."""


class _Mark:
    """Where a variable number of arguments begins on the stack."""


class _Global:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Made:
    """What a call gives: `callable(*args)`, then `state` as BUILD sets it."""

    __slots__ = ("args", "callable", "state")

    def __init__(self, made_by: Any, args: Any) -> None:
        self.callable = made_by
        self.args = args
        self.state: Any = None


class _Dict:
    """Only the notable keys of a dict. clean: it has no others."""

    __slots__ = ("clean", "items")

    def __init__(self) -> None:
        self.items: dict[str, Any] | None = None
        self.clean = True

    def set(self, key: Any, value: Any) -> None:
        if type(key) is str and key in NOTABLE_KEYS:
            self.items = self.items or {}
            self.items[key] = value
        else:
            self.clean = False


CODE_ARGUMENTS_SINCE_3_11: Final = 18
CO_CODE: Final = 6  # its place among them
TOO_LARGE: Final = "Export the model to ONNX, or dump it with joblib, which keeps arrays as plain bytes."
CANNOT_BE_JUDGED: Final = "No library writes such a file, and it cannot be judged; save the model again."
HAS_OBJECTS: Final = 1  # NPY_ITEM_REFCOUNT, a flag of numpy's dtypes
OPAQUE: Final = _Opaque()
MARK: Final = _Mark()


class UnknownDtypeError(Exception):
    """The size of an array's items cannot be told for certain."""


def read_pickle(stream: Stream) -> PickleReading:
    """Walk the pickle in `stream` to its end. Cost: about 2 million opcodes a second; arrays are skipped.

    Raises UnreadableArtifact, with the place and the reason, for what cannot be read or could be read in two ways.
    """
    findings = _Findings()
    walker = _Walker(stream, findings, inline_arrays=True)
    walker.walk()
    if stream.read(1):
        raise walker.unreadable("other bytes follow its end", "Save one model, and nothing else, in the file.")
    return PickleReading(
        protocol=walker.protocol,
        globals=tuple(sorted(findings.globals)),
        called=tuple(sorted(findings.called)),
        changed=tuple(sorted(findings.changed)),
        sklearn_versions=tuple(sorted(findings.sklearn_versions)),
        feature_names=findings.feature_names,
        code_arguments=tuple(sorted(findings.code_arguments)),
        code_pythons=tuple(sorted(findings.code_pythons)),
        arrays=findings.arrays,
        joblib=findings.joblib,
    )


class _Findings:
    """What has been found so far, in the pickle and in those nested in it."""

    def __init__(self) -> None:
        self.globals: set[str] = set()
        self.called: set[str] = set()
        self.changed: set[str] = set()
        self.sklearn_versions: set[str] = set()
        self.feature_names: tuple[str, ...] = ()
        self.code_arguments: set[int] = set()
        self.code_pythons: set[str] = set()
        self.arrays = 0
        self.joblib = False
        self.code_expected = False
        self.opcodes = 0
        self.objects = 0
        self.text_bytes = 0


class _Walker:
    """One pickle program. inline_arrays: whether it is joblib that will read it."""

    def __init__(self, stream: Stream, findings: _Findings, *, inline_arrays: bool) -> None:
        self._stream = stream
        self._take = stream.read
        self._findings = findings
        self._inline_arrays = inline_arrays
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._frame_end: int | None = None
        self._taken = 0
        self._described: list[_Dict] | None = None
        """Dictionaries made since a joblib array's wrapper was; None where no wrapper waits for its description."""
        self.protocol = 0
        self.result: Any = OPAQUE

    def walk(self) -> None:
        handlers, stack, findings = _HANDLERS, self._stack, self._findings
        try:
            while True:
                opcode = self._read(1)
                handler = handlers.get(opcode)
                if handler is None:
                    raise self.unreadable(f"{opcode!r} is no pickle opcode")
                if handler is _stop:
                    break
                handler(self)
                if self._frame_end is not None and self._taken >= self._frame_end:
                    self._leave_frame()
                findings.opcodes += 1
                if findings.opcodes > MAX_OPCODES or findings.objects + len(stack) > MAX_OBJECTS:
                    raise self.unreadable("it holds more objects than any model PRISM serves", TOO_LARGE)
        except (IndexError, KeyError, ValueError, OverflowError, RecursionError) as error:
            raise self.unreadable(f"an opcode does not fit ({type(error).__name__}: {error})") from error
        if self._in_frame():
            raise self.unreadable("it ends before its frame")
        if len(stack) != 1:
            raise self.unreadable(f"{len(stack)} values are left at its end instead of one")
        self.result = stack[0]

    def unreadable(self, reason: str, hint: str = "") -> UnreadableArtifact:
        position = self._stream.position
        place = f"at byte {position}" if position is not None else f"at byte {self._taken} of the decompressed content"
        return UnreadableArtifact(
            f"The pickle cannot be read {place}: {reason}.",
            hint=hint or "Save the model again with pickle or joblib, and upload the whole file.",
            offset=position if position is not None else self._taken,
        )

    # --- bytes

    def _read(self, count: int) -> bytes:
        data = self._take(count)
        if len(data) != count:
            raise self.unreadable("it ends in the middle")
        self._taken += count
        return data

    def _skip(self, count: int) -> None:
        if not self._stream.skip(count):
            raise self.unreadable(f"it ends in the middle, {count} bytes of content are announced")
        self._taken += count

    def _number(self, size: int) -> int:
        return int.from_bytes(self._read(size), "little")

    def _line(self) -> bytes:
        line = self._stream.readline(MAX_LINE_BYTES)
        self._taken += len(line)
        if not line.endswith(b"\n"):
            raise self.unreadable("a line has no end")
        return line[:-1]

    def _text(self, size: int) -> Any:
        if size > MAX_TEXT_BYTES:
            self._skip(size)
            return OPAQUE
        self._findings.text_bytes += size
        if self._findings.text_bytes > MAX_TEXTS_BYTES:
            raise self.unreadable("it holds more text than any model PRISM serves", TOO_LARGE)
        return self._read(size).decode("utf-8", "surrogatepass")

    # --- the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is MARK:
            raise ValueError("a mark in place of a value")
        return value

    def _to_mark(self) -> list[Any]:
        """What stands above the last mark; both are taken off."""
        stack = self._stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is MARK:
                items = stack[index + 1 :]
                del stack[index:]
                return items
        raise ValueError("no mark")

    # --- imports and calls

    def _import(self, module: Any, name: Any) -> None:
        """Raises UnreadableArtifact for a name that only running the pickle would tell."""
        if type(module) is not str or type(name) is not str:
            raise self.unreadable("it computes the name of what it imports", CANNOT_BE_JUDGED)
        if self.protocol < 3:  # as pickle.load does with what Python 2 may have written
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        # A name with dots is a path of attributes; the colon keeps it apart from a module in a package.
        full = f"{module}:{name}" if "." in name else f"{module}.{name}"
        if full == ARRAY_WRAPPER:
            self._findings.joblib = True
        elif full == "types.CodeType" or full.endswith("._builtin_type"):
            self._findings.code_expected = True
        if full in OLD_WRAPPERS:
            raise self.unreadable(
                "it was dumped by a joblib older than 0.10", "Load it there and dump it with a new one."
            )
        self._findings.globals.add(full)
        self._push(_Global(full))

    def _call(self, made_by: Any, args: Any) -> None:
        """What REDUCE, OBJ and INST do."""
        self._make(made_by, args)
        if isinstance(made_by, _Global):
            self._findings.called.add(made_by.name)
            self._findings.called.update(_handed_over(made_by.name, args))
            if made_by.name in RETURNERS and not all(map(_is_content, args[1:])):
                raise self.unreadable("it makes a scalar of something else than bytes", CANNOT_BE_JUDGED)

    def _make(self, made_by: Any, args: Any) -> None:
        """What NEWOBJ does: an object of a class, whose `__init__` is not called."""
        if type(args) is not tuple:
            raise self.unreadable("it computes the arguments of a call", CANNOT_BE_JUDGED)
        self._refuse_wrappers((made_by, *args))
        if self._described is not None and not _is_global(made_by, "numpy.dtype"):
            raise self.unreadable("it makes an object within the description of a joblib array", CANNOT_BE_JUDGED)
        if _is_code_type(made_by):
            self._code(args)
        elif isinstance(made_by, _Made):
            self._findings.called.add(f"{_origin(made_by)}()")
        self._findings.objects += 1
        self._push(_Made(made_by, args))

    def _code(self, args: tuple[Any, ...]) -> None:
        self._findings.code_arguments.add(len(args))
        if (
            len(args) == CODE_ARGUMENTS_SINCE_3_11
            and type(args[CO_CODE]) is bytes
            and (python := python_of(args[CO_CODE]))
        ):
            self._findings.code_pythons.add(python)

    def _refuse_wrappers(self, values: Sequence[Any]) -> None:
        """A joblib array's wrapper is made by NEWOBJ and replaced by its array at BUILD, and is nowhere else.

        Anywhere else, some harmless function could give it back, and the array would be read where none is seen.
        """
        if self._findings.joblib and any(map(_is_wrapper, values)):
            raise self.unreadable("it makes a joblib array in an unusual way", CANNOT_BE_JUDGED)

    def _change(self, target: Any) -> None:
        """Note that `target` gets items or a state of the pickle's choice."""
        if type(target) is _Global:
            self._findings.changed.add(target.name)

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        self._refuse_wrappers((state,))
        self._change(target)
        if not isinstance(target, _Made):
            return
        if _is_global(target.callable, "numpy.dtype") and (target.state is not None or not _is_plain_dtype(target)):
            raise self.unreadable("it changes a dtype that others may share", CANNOT_BE_JUDGED)
        if not _is_global(target.callable, ARRAY_WRAPPER):
            target.state = state
        elif type(state) is not _Dict or not state.clean or not any(state is fresh for fresh in self._described or ()):
            raise self.unreadable("a joblib array has no plain description", CANNOT_BE_JUDGED)
        else:
            self._described = None
            target.state = dict(state.items or {})
            if self._inline_arrays:
                self._stack[-1] = self._array(target.state)

    def _array(self, description: dict[str, Any]) -> Any:
        """Pass over the content of an array that joblib reads from the file at this point."""
        if self._in_frame():
            raise self.unreadable("an array stands inside a frame", CANNOT_BE_JUDGED)
        self._frame_end = None
        self._findings.arrays += 1
        shape = description.get("shape")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise self.unreadable("an array has no plain shape")
        item_bytes = self._item_bytes(description.get("dtype"))
        if item_bytes is None:
            nested = _Walker(self._stream, self._findings, inline_arrays=False)
            nested.walk()
            self._taken += nested._taken
            return nested.result
        alignment = description.get("numpy_array_alignment_bytes")
        if alignment is not None:
            if type(alignment) is not int:
                raise self.unreadable("an array has no plain alignment")
            self._skip(self._number(1))
        count = 1
        for size in shape:
            count *= size
        self._skip(count * item_bytes)
        return OPAQUE

    def _item_bytes(self, dtype: Any) -> int | None:
        """Bytes of one item; None where items are objects, which follow as a pickle of their own."""
        if isinstance(dtype, _Made) and _is_global(dtype.callable, "numpy.dtype"):
            with contextlib.suppress(UnknownDtypeError):
                return item_bytes(dtype.args, dtype.state)
        raise self.unreadable(
            "an array's dtype is not understood", "Convert the array to a numeric dtype and save again."
        )

    # --- what is worth remembering

    def _new_dict(self) -> None:
        made = _Dict()
        self._findings.objects += 1
        if self._described is not None:
            self._described.append(made)
        self._push(made)

    def _set(self, target: Any, key: Any, value: Any) -> None:
        if isinstance(target, _Dict):
            target.set(key, value)
        if key == "_sklearn_version" and type(value) is str:
            self._findings.sklearn_versions.add(value)
        elif key == "feature_names_in_":  # the last one is the outermost estimator's: states are set from inside out
            self._findings.feature_names = _strings_of_array(value) or self._findings.feature_names

    def _frame(self) -> None:
        size = self._number(8)
        if self._in_frame():
            raise self.unreadable("a frame begins inside another")
        self._frame_end = self._taken + size

    def _in_frame(self) -> bool:
        return self._frame_end is not None and self._taken < self._frame_end

    def _leave_frame(self) -> None:
        if self._frame_end != self._taken:
            raise self.unreadable("a frame ends inside an opcode")
        self._frame_end = None

    def _memoize(self, index: int) -> None:
        self._memo[index] = self._stack[-1]
        self._findings.objects += 1

    def _recall(self, index: int) -> None:
        value = self._memo[index]
        if type(value) is _Made:
            self._refuse_wrappers((value,))
        self._push(value)

    def _new_object(self) -> None:
        args, made_by = self._pop(), self._pop()
        if _is_global(made_by, ARRAY_WRAPPER) and args == ():
            self._described = []
            self._push(_Made(made_by, args))
        else:
            self._make(made_by, args)


def item_bytes(args: Any, state: Any) -> int | None:
    """Size of one item of `numpy.dtype(*args)` after `__setstate__(state)`; None for objects.

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


def _is_global(value: Any, name: str) -> bool:
    return isinstance(value, _Global) and value.name == name


def _is_wrapper(value: Any) -> bool:
    """Whether it is joblib's wrapper class or an instance of it."""
    return _is_global(value, ARRAY_WRAPPER) or (type(value) is _Made and _is_global(value.callable, ARRAY_WRAPPER))


def _is_content(value: Any) -> bool:
    """Whether it is text or bytes, which pickles before protocol 3 write as `_codecs.encode(text, "latin1")`."""
    if isinstance(value, _Made):
        return _origin(value) in ("_codecs.encode", "builtins.bytes")
    return value is OPAQUE or isinstance(value, (str, bytes))


def _is_plain_dtype(dtype: _Made) -> bool:
    """Whether it was made as numpy writes it, a copy of its own: `dtype(text or class, False, True)`."""
    args = dtype.args
    return len(args) == 3 and type(args[0]) in (str, _Global) and args[1] in (False, 0) and args[2] in (True, 1)


def _origin(value: Any) -> str:
    while isinstance(value, _Made):
        value = value.callable
    return value.name if isinstance(value, _Global) else "?"


def _handed_over(function: str, args: tuple[Any, ...]) -> set[str]:
    """Which of the globals among the arguments `function` may call in turn.

    copyreg._reconstructor(cls, base, state) makes a `cls`, but calls `base.__init__`; numpy's rebuilders of random
    generators call their second argument.
    """
    if function in HOLDERS or REBUILDERS.fullmatch(function):
        return set()
    called = {value.name for value in args if isinstance(value, _Global)}
    if function == "copyreg._reconstructor":
        called = {_origin(value) for value in args[1:2]} | {
            f"{_origin(value)}()" for value in args[:1] if type(value) is _Made
        }
    elif function.startswith("numpy.random."):
        called |= {f"{_origin(value)}()" for value in args[1:] if type(value) is _Made}
    return called


def _is_code_type(made_by: Any) -> bool:
    if isinstance(made_by, _Made):  # cloudpickle names it so
        asked = isinstance(made_by.callable, _Global) and made_by.callable.name.endswith("._builtin_type")
        return asked and made_by.args == ("CodeType",)
    return isinstance(made_by, _Global) and made_by.name in ("types.CodeType", "builtins.code")


def _strings_of_array(value: Any) -> tuple[str, ...]:
    """The strings of a pickled object array: the list that its state ends with."""
    if isinstance(value, _Made) and isinstance(value.state, tuple) and isinstance(value.state[-1], list):
        return tuple(item for item in value.state[-1] if type(item) is str)
    return ()


# --- the opcodes: each takes its arguments from the stream and does to the stack what Python's unpickler does

Handler = Callable[[_Walker], None]


def _constant(value: Any) -> Handler:
    return lambda walker: walker._push(value)


def _opaque(size: int) -> Handler:
    def handler(walker: _Walker) -> None:
        walker._read(size)
        walker._push(OPAQUE)

    return handler


def _integer(size: int) -> Handler:
    def handler(walker: _Walker) -> None:
        walker._push(int.from_bytes(walker._read(size), "little", signed=size == 4))

    return handler


def _long(size: int) -> Handler:
    def handler(walker: _Walker) -> None:
        length = walker._number(size)
        if length > 8:
            walker._skip(length)
            walker._push(OPAQUE)
        else:
            walker._push(int.from_bytes(walker._read(length), "little", signed=True))

    return handler


def _content(size: int) -> Handler:
    """Bytes whose length comes first."""

    def handler(walker: _Walker) -> None:
        length = walker._number(size)
        if length <= MAX_TEXT_BYTES and walker._findings.code_expected:
            walker._findings.text_bytes += length
            walker._push(walker._read(length))
        else:
            walker._skip(length)
            walker._push(OPAQUE)

    return handler


def _unicode(size: int) -> Handler:
    def handler(walker: _Walker) -> None:
        walker._push(walker._text(walker._number(size)))

    return handler


def _binary_string(size: int) -> Handler:
    """A string of Python 2. Not ASCII means that it was bytes."""

    def handler(walker: _Walker) -> None:
        length = walker._number(size)
        if length > MAX_TEXT_BYTES:
            walker._skip(length)
            walker._push(OPAQUE)
        else:
            data = walker._read(length)
            walker._push(data.decode("ascii") if data.isascii() else OPAQUE)

    return handler


def _quoted_string(walker: _Walker) -> None:
    line = walker._line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    data = codecs.escape_decode(line[1:-1])[0]
    walker._push(data.decode("ascii") if data.isascii() else OPAQUE)


def _unicode_line(walker: _Walker) -> None:
    walker._push(walker._line().decode("raw-unicode-escape"))


def _integer_line(walker: _Walker) -> None:
    line = walker._line()
    walker._push(line == b"01" if line in (b"00", b"01") else _small(line))


def _long_line(walker: _Walker) -> None:
    walker._push(_small(walker._line().removesuffix(b"L")))


def _small(digits: bytes) -> Any:
    return int(digits, 0) if len(digits) < 20 else OPAQUE


def _float_line(walker: _Walker) -> None:
    float(walker._line())
    walker._push(OPAQUE)


def _mark(walker: _Walker) -> None:
    walker._push(MARK)


def _pop(walker: _Walker) -> None:
    walker._stack.pop()


def _pop_mark(walker: _Walker) -> None:
    walker._to_mark()


def _duplicate(walker: _Walker) -> None:
    walker._push(walker._stack[-1])


def _empty_list(walker: _Walker) -> None:
    walker._findings.objects += 1
    walker._push([])


def _append(walker: _Walker) -> None:
    item = walker._pop()
    _extend(walker, walker._stack[-1], [item])


def _appends(walker: _Walker) -> None:
    items = walker._to_mark()
    _extend(walker, walker._stack[-1], items)


def _extend(walker: _Walker, target: Any, items: list[Any]) -> None:
    walker._refuse_wrappers(items)
    walker._change(target)
    if isinstance(target, list) and len(target) < MAX_KEPT:
        target.extend(items[: MAX_KEPT - len(target)])


def _list(walker: _Walker) -> None:
    items = walker._to_mark()
    walker._refuse_wrappers(items)
    walker._findings.objects += 1
    walker._push(items[:MAX_KEPT])


def _tuple(walker: _Walker) -> None:
    _push_tuple(walker, tuple(walker._to_mark()))


def _push_tuple(walker: _Walker, items: tuple[Any, ...]) -> None:
    walker._refuse_wrappers(items)
    walker._findings.objects += 1
    walker._push(items)


def _short_tuple(size: int) -> Handler:
    def handler(walker: _Walker) -> None:
        _push_tuple(walker, tuple([walker._pop() for _ in range(size)])[::-1])

    return handler


def _dict(walker: _Walker) -> None:
    items = walker._to_mark()
    walker._new_dict()
    _set_pairs(walker, walker._stack[-1], items)


def _set_item(walker: _Walker) -> None:
    value, key = walker._pop(), walker._pop()
    _set_pairs(walker, walker._stack[-1], [key, value])


def _set_items(walker: _Walker) -> None:
    items = walker._to_mark()
    _set_pairs(walker, walker._stack[-1], items)


def _set_pairs(walker: _Walker, target: Any, items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError("a key without a value")
    walker._refuse_wrappers(items)
    walker._change(target)
    for index in range(0, len(items), 2):
        key = items[index]
        if type(key) is str and key in NOTABLE_KEYS:
            walker._set(target, key, items[index + 1])
        elif type(target) is _Dict:
            target.clean = False


def _empty_set(walker: _Walker) -> None:
    walker._push(OPAQUE)


def _add_items(walker: _Walker) -> None:
    items = walker._to_mark()
    if not walker._stack:
        raise ValueError("no set to add to")
    walker._refuse_wrappers(items)
    walker._change(walker._stack[-1])


def _frozen_set(walker: _Walker) -> None:
    walker._refuse_wrappers(walker._to_mark())
    walker._push(OPAQUE)


def _get_line(walker: _Walker) -> None:
    walker._recall(int(walker._line()))


def _get(size: int) -> Handler:
    return lambda walker: walker._recall(walker._number(size))


def _put_line(walker: _Walker) -> None:
    walker._memoize(int(walker._line()))


def _put(size: int) -> Handler:
    return lambda walker: walker._memoize(walker._number(size))


def _memoize(walker: _Walker) -> None:
    walker._memoize(len(walker._memo))


def _global(walker: _Walker) -> None:
    module = walker._line().decode("utf-8")
    walker._import(module, walker._line().decode("utf-8"))


def _stack_global(walker: _Walker) -> None:
    name, module = walker._pop(), walker._pop()
    walker._import(module, name)


def _instance(walker: _Walker) -> None:
    args = tuple(walker._to_mark())
    _global(walker)
    walker._call(walker._pop(), args)


def _object(walker: _Walker) -> None:
    made_by, *args = walker._to_mark()
    walker._call(made_by, tuple(args))


def _reduce(walker: _Walker) -> None:
    args, made_by = walker._pop(), walker._pop()
    walker._call(made_by, args)


def _new_object_with_keywords(walker: _Walker) -> None:
    keywords, args, made_by = walker._pop(), walker._pop(), walker._pop()
    walker._refuse_wrappers((keywords,))
    walker._make(made_by, args)


def _protocol(walker: _Walker) -> None:
    version = walker._number(1)
    if version > 5:
        raise ValueError(f"pickle protocol {version} is not known")
    walker.protocol = version


def _stop(walker: _Walker) -> None:
    """Ends the walk; see there."""


def _refused(what: str, hint: str) -> Handler:
    def handler(walker: _Walker) -> None:
        raise walker.unreadable(what, hint)

    return handler


_EXTENSION = _refused("it imports by a number of the extension registry", "Save the model with pickle or joblib anew.")
_PERSISTENT = _refused(
    "it refers to objects outside the file (persistent ids, as PyTorch files do)",
    "Export a PyTorch model to ONNX; save anything else with pickle or joblib.",
)
_BUFFER = _refused("it refers to buffers outside the file", "Save it without a buffer_callback.")

_HANDLERS: Final[dict[bytes, Handler]] = {
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"I": _integer_line,
    b"J": _integer(4),
    b"K": _integer(1),
    b"M": _integer(2),
    b"L": _long_line,
    b"\x8a": _long(1),
    b"\x8b": _long(4),
    b"F": _float_line,
    b"G": _opaque(8),
    b"S": _quoted_string,
    b"T": _binary_string(4),
    b"U": _binary_string(1),
    b"B": _content(4),
    b"C": _content(1),
    b"\x8e": _content(8),
    b"\x96": _content(8),
    b"V": _unicode_line,
    b"\x8c": _unicode(1),
    b"X": _unicode(4),
    b"\x8d": _unicode(8),
    b"]": _empty_list,
    b"a": _append,
    b"e": _appends,
    b"l": _list,
    b")": _constant(()),
    b"t": _tuple,
    b"\x85": _short_tuple(1),
    b"\x86": _short_tuple(2),
    b"\x87": _short_tuple(3),
    b"}": _Walker._new_dict,
    b"d": _dict,
    b"s": _set_item,
    b"u": _set_items,
    b"\x8f": _empty_set,
    b"\x90": _add_items,
    b"\x91": _frozen_set,
    b"0": _pop,
    b"2": _duplicate,
    b"(": _mark,
    b"1": _pop_mark,
    b"g": _get_line,
    b"h": _get(1),
    b"j": _get(4),
    b"p": _put_line,
    b"q": _put(1),
    b"r": _put(4),
    b"\x94": _memoize,
    b"\x82": _EXTENSION,
    b"\x83": _EXTENSION,
    b"\x84": _EXTENSION,
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"b": _Walker._build,
    b"i": _instance,
    b"o": _object,
    b"\x81": _Walker._new_object,
    b"\x92": _new_object_with_keywords,
    b"\x80": _protocol,
    b".": _stop,
    b"\x95": _Walker._frame,
    b"P": _PERSISTENT,
    b"Q": _PERSISTENT,
    b"\x97": _BUFFER,
    b"\x98": _BUFFER,
}
