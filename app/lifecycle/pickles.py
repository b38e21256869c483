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
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from app.errors import UnreadableArtifact
from app.lifecycle.compression import Stream

MAX_OPCODES: Final = 500_000_000
MAX_STACK: Final = 20_000_000
MAX_TEXT_BYTES: Final = 1024  # longer than any module, class or column name that matters
MAX_LINE_BYTES: Final = 1 << 20
MAX_KEPT: Final = 4096  # items of a list or tuple that are remembered

NOTABLE_KEYS: Final = frozenset(
    {"_sklearn_version", "feature_names_in_", "shape", "dtype", "numpy_array_alignment_bytes", "subclass"}
)
ARRAY_WRAPPER: Final = "joblib.numpy_pickle.NumpyArrayWrapper"
OLD_WRAPPERS: Final = frozenset(
    {"joblib.numpy_pickle_compat.NDArrayWrapper", "joblib.numpy_pickle_compat.ZNDArrayWrapper"}
    | {"joblib.numpy_pickle.NDArrayWrapper", "joblib.numpy_pickle.ZNDArrayWrapper"}
    | {"sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper"}
)


class PickleReading(Struct, frozen=True):
    """What the walk found.

    globals: sorted `module.name` of every import, `module:a.b` where the name is a path of attributes. sklearn_versions: values of `_sklearn_version`.
    feature_names: of the outermost `feature_names_in_`. code_arguments: with how many arguments code objects are made,
    which tells the Python that made them. arrays: how many joblib arrays were passed over.
    """

    protocol: int
    globals: tuple[str, ...]
    sklearn_versions: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    code_arguments: tuple[int, ...] = ()
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
    """Only the notable keys of a dict. clean: no key was anything but a plain string."""

    __slots__ = ("clean", "items")

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.clean = True

    def set(self, key: Any, value: Any) -> None:
        if type(key) is not str:
            self.clean = False
        elif key in NOTABLE_KEYS:
            self.items[key] = value


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
        sklearn_versions=tuple(sorted(findings.sklearn_versions)),
        feature_names=findings.feature_names,
        code_arguments=tuple(sorted(findings.code_arguments)),
        arrays=findings.arrays,
        joblib=ARRAY_WRAPPER in findings.globals,
    )


class _Findings:
    """What has been found so far, in the pickle and in those nested in it."""

    def __init__(self) -> None:
        self.globals: set[str] = set()
        self.sklearn_versions: set[str] = set()
        self.feature_names: tuple[str, ...] = ()
        self.code_arguments: set[int] = set()
        self.arrays = 0


class _Walker:
    """One pickle program. inline_arrays: whether it is joblib that will read it."""

    def __init__(self, stream: Stream, findings: _Findings, *, inline_arrays: bool) -> None:
        self._stream = stream
        self._take = stream.read
        self._findings = findings
        self._inline_arrays = inline_arrays
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._opcodes = 0
        self._frame_end: int | None = None
        self._taken = 0
        self.protocol = 0
        self.result: Any = OPAQUE

    def walk(self) -> None:
        handlers, stack = _HANDLERS, self._stack
        try:
            while True:
                opcode = self._read(1)
                handler = handlers.get(opcode)
                if handler is None:
                    raise self.unreadable(f"{opcode!r} is no pickle opcode")
                self._opcodes += 1
                if handler is _stop:
                    break
                handler(self)
                if self._frame_end is not None and self._taken >= self._frame_end:
                    self._leave_frame()
                if len(stack) > MAX_STACK or self._opcodes > MAX_OPCODES:
                    raise self.unreadable("it is larger than any model PRISM serves")
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
            raise self.unreadable("it computes the name of what it imports", "Such a file cannot be judged.")
        if self.protocol < 3:  # as pickle.load does with what Python 2 may have written
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        # A name with dots is a path of attributes; the colon keeps it apart from a module in a package.
        full = f"{module}:{name}" if "." in name else f"{module}.{name}"
        if full in OLD_WRAPPERS:
            raise self.unreadable(
                "it was dumped by a joblib older than 0.10", "Load it there and dump it with a new one."
            )
        self._findings.globals.add(full)
        self._push(_Global(full))

    def _call(self, made_by: Any, args: Any) -> None:
        if isinstance(args, tuple) and _is_code_type(made_by):
            self._findings.code_arguments.add(len(args))
        if _mentions_wrapper(made_by) or (isinstance(args, tuple) and any(map(_mentions_wrapper, args))):
            raise self.unreadable("it makes a joblib array in an unusual way", "Such a file cannot be judged.")
        self._push(_Made(made_by, args))

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        if not isinstance(target, _Made):
            return
        if _is_global(target.callable, "numpy.dtype") and target.state is not None:
            raise self.unreadable("it changes a dtype twice", "Such a file cannot be judged.")
        if not _is_global(target.callable, ARRAY_WRAPPER):
            target.state = state
        elif not isinstance(state, _Dict) or not state.clean:
            raise self.unreadable("a joblib array has no plain description", "Such a file cannot be judged.")
        else:
            target.state = {**(target.state or {}), **state.items}
            if self._inline_arrays:
                self._stack[-1] = self._array(target.state)

    def _array(self, description: dict[str, Any]) -> Any:
        """Pass over the content of an array that joblib reads from the file at this point."""
        if self._in_frame():
            raise self.unreadable("an array stands inside a frame", "Such a file cannot be judged.")
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

    def _new_object(self) -> None:
        args, made_by = self._pop(), self._pop()
        if _is_global(made_by, ARRAY_WRAPPER) and args == ():
            self._push(_Made(made_by, args))
        else:
            self._call(made_by, args)


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


def _mentions_wrapper(value: Any) -> bool:
    return _is_global(value, ARRAY_WRAPPER) or (isinstance(value, tuple) and any(map(_mentions_wrapper, value)))


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
        walker._skip(walker._number(size))
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
    walker._push([])


def _append(walker: _Walker) -> None:
    item = walker._pop()
    _extend(walker._stack[-1], [item])


def _appends(walker: _Walker) -> None:
    items = walker._to_mark()
    _extend(walker._stack[-1], items)


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list) and len(target) < MAX_KEPT:
        target.extend(items[: MAX_KEPT - len(target)])


def _list(walker: _Walker) -> None:
    walker._push(walker._to_mark()[:MAX_KEPT])


def _tuple(walker: _Walker) -> None:
    walker._push(tuple(walker._to_mark()))


def _short_tuple(size: int) -> Handler:
    def handler(walker: _Walker) -> None:
        items = tuple(walker._pop() for _ in range(size))[::-1]
        walker._push(items)

    return handler


def _empty_dict(walker: _Walker) -> None:
    walker._push(_Dict())


def _dict(walker: _Walker) -> None:
    items = walker._to_mark()
    target = _Dict()
    walker._push(target)
    _set_pairs(walker, target, items)


def _set_item(walker: _Walker) -> None:
    value, key = walker._pop(), walker._pop()
    walker._set(walker._stack[-1], key, value)


def _set_items(walker: _Walker) -> None:
    items = walker._to_mark()
    _set_pairs(walker, walker._stack[-1], items)


def _set_pairs(walker: _Walker, target: Any, items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError("a key without a value")
    for index in range(0, len(items), 2):
        key = items[index]
        if type(key) is not str or key in NOTABLE_KEYS:
            walker._set(target, key, items[index + 1])


def _empty_set(walker: _Walker) -> None:
    walker._push(OPAQUE)


def _add_items(walker: _Walker) -> None:
    walker._to_mark()
    if not walker._stack:
        raise ValueError("no set to add to")


def _frozen_set(walker: _Walker) -> None:
    walker._to_mark()
    walker._push(OPAQUE)


def _get_line(walker: _Walker) -> None:
    walker._push(walker._memo[int(walker._line())])


def _get(size: int) -> Handler:
    return lambda walker: walker._push(walker._memo[walker._number(size)])


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
    _, args, made_by = walker._pop(), walker._pop(), walker._pop()
    walker._call(made_by, args)


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
    b"}": _empty_dict,
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
