"""The symbolic stack machine: bytes in, findings out."""

from __future__ import annotations

import contextlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from app.artifact.archives.compression import Source
from app.artifact.pickles.booster import BOOSTER_END_BYTES, version_of_booster
from app.artifact.pickles.bytecode import python_of
from app.artifact.pickles.symbols import (
    ARRAY_WRAPPER,
    KEEPERS,
    MARK,
    MAX_TEXT_BYTES,
    NEW_OBJECT,
    OLD_WRAPPERS,
    OPAQUE,
    RETURNS_ARGUMENTS,
    WIDTHS_MAX,
    CallResult,
    Global,
    TrackedDict,
    UnknownDtypeError,
    callable_arguments,
    is_code_type,
    is_content,
    is_global,
    is_plain_dtype,
    is_wrapper,
    item_bytes,
    kept,
    origin,
    origin_of_call,
    strings_of_array,
)
from app.core.plain import valid_text
from app.errors import UnreadableArtifact

MAX_OPCODES: Final = 100_000_000  # about a minute and a half
MAX_OBJECTS: Final = 10_000_000  # on the stack, in the memo and made: about 1 GB of this process
MAX_TEXTS_BYTES: Final = 256 << 20  # of all short texts together, each of which the memo may keep
MAX_LINE_BYTES: Final = 1 << 20
CODE_ARGUMENTS_SINCE_3_11: Final = 18
CO_CODE: Final = 6  # its place among them
STOP: Final = b"."
TOO_LARGE: Final = "Export the model to ONNX, or dump it with joblib, which keeps arrays as plain bytes."
CANNOT_BE_JUDGED: Final = "No library writes such a file, so PRISM cannot judge it; save the model again."


class Findings:
    """The findings so far, in the pickle and in those nested in it."""

    def __init__(self) -> None:
        self.globals: set[str] = set()
        self.called: set[str] = set()
        self.changed: set[str] = set()
        self.held: set[str] = set()
        self.formulas: set[str] = set()
        self.computed_keys = False
        self.sklearn_versions: set[str] = set()
        self.feature_names: tuple[str, ...] = ()
        self.widths: set[int] = set()
        self.sets_output = False
        self.has_categories = False
        self.xgboost_versions: set[str] = set()
        self.code_arguments: set[int] = set()
        self.code_pythons: set[str] = set()
        self.arrays = 0
        self.joblib = False
        self.code_expected = False
        self.opcodes = 0
        self.objects = 0
        self.text_bytes = 0


Handler = Callable[["PickleScanner"], None]
"""What an opcode does."""


class PickleScanner:
    """One pickle program.

    handlers: what each opcode does to a walker; `opcodes.HANDLERS`. inline_arrays: whether it is joblib that will read
    it. has_tensors: whether PyTorch will.
    """

    def __init__(
        self,
        stream: Source,
        findings: Findings,
        handlers: Mapping[bytes, Handler],
        *,
        inline_arrays: bool = False,
        has_tensors: bool = False,
    ) -> None:
        self._stream = stream
        self._handlers = handlers
        self._take_bytes = stream.read
        self.findings = findings
        self._inline_arrays = inline_arrays
        self.has_tensors = has_tensors
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._frame_end: int | None = None
        self._taken = 0
        self._described: list[TrackedDict] | None = None
        """The dictionaries made since a joblib array's wrapper was; None where no wrapper waits for its description."""
        self.protocol = 0
        self.result: Any = OPAQUE

    def walk(self) -> None:
        handlers, stack, findings = self._handlers, self.stack, self.findings
        stop = handlers[STOP]
        try:
            while True:
                opcode = self.take(1)
                handler = handlers.get(opcode)
                if handler is None:
                    raise self.unreadable(f"{opcode!r} is not a pickle opcode")
                if handler is stop:
                    break
                handler(self)
                if self._frame_end is not None and self._taken >= self._frame_end:
                    self._leave_frame()
                findings.opcodes += 1
                if findings.opcodes > MAX_OPCODES or findings.objects + len(stack) > MAX_OBJECTS:
                    what = f"it holds more than {MAX_OBJECTS} objects or {MAX_OPCODES} opcodes"
                    raise self.unreadable(f"{what}, more than any model PRISM serves", TOO_LARGE)
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

    def take(self, count: int) -> bytes:
        data = self._take_bytes(count)
        if len(data) != count:
            raise self.unreadable("it ends in the middle")
        self._taken += count
        return data

    def has_more(self) -> bool:
        return bool(self._take_bytes(1))

    def skip(self, count: int) -> None:
        if not self._stream.skip(count):
            raise self.unreadable(f"it ends in the middle, {count} bytes of content are announced")
        self._taken += count

    def pass_content(self, size: int) -> None:
        """Pass over bytes, but for what a booster of XGBoost says of its version at their end."""
        if size < BOOSTER_END_BYTES or "xgboost.core.Booster" not in self.findings.globals:
            self.skip(size)
            return
        self.skip(size - BOOSTER_END_BYTES)
        if version := version_of_booster(self.take(BOOSTER_END_BYTES)):
            self.findings.xgboost_versions.add(version)

    def take_number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take_line(self) -> bytes:
        line = self._stream.readline(MAX_LINE_BYTES)
        self._taken += len(line)
        if not line.endswith(b"\n"):
            raise self.unreadable("a line has no end")
        return line[:-1]

    def take_text(self, size: int) -> Any:
        if size > MAX_TEXT_BYTES:
            self.skip(size)
            return OPAQUE
        self.findings.text_bytes += size
        if self.findings.text_bytes > MAX_TEXTS_BYTES:
            what = f"it holds more than {MAX_TEXTS_BYTES >> 20} MiB of short texts"
            raise self.unreadable(f"{what}, more than any model PRISM serves", TOO_LARGE)
        return valid_text(self.take(size).decode("utf-8", "surrogatepass"))

    # --- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a mark in place of a value")
        return value

    def to_mark(self) -> list[Any]:
        """Take the last mark and all above it off the stack, and return what was above it."""
        stack = self.stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is MARK:
                items = stack[index + 1 :]
                del stack[index:]
                return items
        raise ValueError("no mark")

    # --- imports and calls

    def import_global(self, module: Any, name: Any) -> None:
        """Note an import and push it. Raises UnreadableArtifact for a name that only running the pickle would tell."""
        if type(module) is not str or type(name) is not str:
            raise self.unreadable("it computes the name of an import", CANNOT_BE_JUDGED)
        if self.protocol < 3:  # as pickle.load does with what Python 2 may have written
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        # A name with dots is a path of attributes; the colon keeps it apart from a module in a package.
        full = f"{module}:{name}" if "." in name else f"{module}.{name}"
        if full == ARRAY_WRAPPER:
            self.findings.joblib = True
        elif full == "types.CodeType" or full.endswith("._builtin_type"):
            self.findings.code_expected = True
        if full in OLD_WRAPPERS:
            raise self.unreadable(
                "it was dumped by a joblib older than 0.10", "Load it with that version and dump it with a newer one."
            )
        self.findings.globals.add(full)
        self.push(Global(full))

    def call(self, made_by: Any, args: Any) -> None:
        """Call a callable, as REDUCE, OBJ and INST do."""
        self.make(made_by, args)
        if isinstance(made_by, Global):
            self.findings.called.add(made_by.name)
            self.findings.called.update(callable_arguments(made_by.name, args))
            if made_by.name in RETURNS_ARGUMENTS and not all(map(is_content, args[1:])):
                raise self.unreadable("it creates a scalar from something other than bytes", CANNOT_BE_JUDGED)

    def make(self, made_by: Any, args: Any) -> None:
        """Make an object of a class without calling its `__init__`, as NEWOBJ does."""
        if type(args) is not tuple:
            raise self.unreadable("it computes the arguments of a call", CANNOT_BE_JUDGED)
        self.refuse_wrappers((made_by, *args))
        self.keep(made_by, args)
        if NEW_OBJECT.fullmatch(origin_of_call(made_by)) and not (args and type(args[0]) is Global):
            raise self.unreadable("it creates an object from something that is not a class", CANNOT_BE_JUDGED)
        if self._described is not None and not is_global(made_by, "numpy.dtype"):
            raise self.unreadable("it creates an object within the description of a joblib array", CANNOT_BE_JUDGED)
        if is_code_type(made_by):
            self._code(args)
        elif isinstance(made_by, CallResult):
            self.findings.called.add(f"{origin(made_by)}()")
        self.findings.objects += 1
        self.push(CallResult(made_by, args))

    def keep(self, keeper: Any, args: tuple[Any, ...]) -> None:
        """Note what a keeper is given; and a keeper that is handed to something else, which could fill it unseen."""
        if isinstance(keeper, Global) and keeper.name in KEEPERS:
            self.findings.held.update(kept(keeper.name, args))
        self.findings.held.update(value.name for value in args if type(value) is Global and value.name in KEEPERS)

    def _refill(self, keeper: Global, state: Any) -> None:
        """Note what the state of a `functools.partial` gives it, `(function, args, keywords, attributes)`."""
        if keeper.name == "functools.partial" and type(state) is tuple and len(state) == 4:
            self.keep(keeper, (state[0], *(state[1] if type(state[1]) is tuple else ())))
        else:
            self.findings.held.add(keeper.name)

    def _code(self, args: tuple[Any, ...]) -> None:
        self.findings.code_arguments.add(len(args))
        if (
            len(args) == CODE_ARGUMENTS_SINCE_3_11
            and type(args[CO_CODE]) is bytes
            and (python := python_of(args[CO_CODE]))
        ):
            self.findings.code_pythons.add(python)

    def refuse_wrappers(self, values: Sequence[Any]) -> None:
        """Refuse a joblib array's wrapper outside its one place: NEWOBJ makes it, and BUILD replaces it by its array.

        Anywhere else, some harmless function could give it back, and the array would be read where none is seen.
        """
        if self.findings.joblib and any(map(is_wrapper, values)):
            raise self.unreadable("it creates a joblib array in an unusual way", CANNOT_BE_JUDGED)

    def change(self, target: Any) -> None:
        """Note that `target` gets items or a state of the pickle's choice."""
        if type(target) is Global:
            self.findings.changed.add(target.name)
        elif type(target) is CallResult and is_global(target.callable, "logging.getLogger"):
            self.findings.changed.add("logging.getLogger()")

    def add_to(self, target: Any) -> None:
        """Add items to `target`, as APPEND, APPENDS and ADDITEMS do: by its method, or by an attribute of that name.

        Pickles add first, set entries next and the state last, so that no attribute can be in the method's place.
        """
        self.change(target)
        if type(target) is CallResult and (target.has_state or target.has_items):
            raise self.unreadable("it adds to an object that already has its state", CANNOT_BE_JUDGED)

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        self.refuse_wrappers((state,))
        self.change(target)
        if not isinstance(target, CallResult):
            return
        if target.has_state:  # a second one goes to whatever the first one made of its `__setstate__`
            raise self.unreadable("it sets the state of an object twice", CANNOT_BE_JUDGED)
        target.has_state = True
        if isinstance(target.callable, Global) and target.callable.name in KEEPERS:
            self._refill(target.callable, state)
        if is_global(target.callable, "numpy.dtype") and (target.state is not None or not is_plain_dtype(target)):
            raise self.unreadable("it changes a dtype that others may share", CANNOT_BE_JUDGED)
        if not is_global(target.callable, ARRAY_WRAPPER):
            target.state = state
        elif (
            type(state) is not TrackedDict
            or not state.clean
            or not any(state is fresh for fresh in self._described or ())
        ):
            raise self.unreadable("a joblib array has no plain description", CANNOT_BE_JUDGED)
        else:
            self._described = None
            target.state = dict(state.items or {})
            if self._inline_arrays:
                self.stack[-1] = self._array(target.state)

    def _array(self, description: dict[str, Any]) -> Any:
        """Pass over the content of an array that joblib reads from the file at this point."""
        if self._in_frame():
            raise self.unreadable("an array stands inside a frame", CANNOT_BE_JUDGED)
        self._frame_end = None
        self.findings.arrays += 1
        shape = description.get("shape")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise self.unreadable("an array has no plain shape")
        item_bytes = self._item_bytes(description.get("dtype"))
        if item_bytes is None:
            nested = PickleScanner(self._stream, self.findings, self._handlers)
            nested.walk()
            self._taken += nested._taken
            return nested.result
        alignment = description.get("numpy_array_alignment_bytes")
        if alignment is not None:
            if type(alignment) is not int:
                raise self.unreadable("an array has no plain alignment")
            self.skip(self.take_number(1))
        count = 1
        for size in shape:
            count *= size
        self.skip(count * item_bytes)
        return OPAQUE

    def _item_bytes(self, dtype: Any) -> int | None:
        """Return the bytes of one item; None where items are objects, which follow as a pickle of their own."""
        if isinstance(dtype, CallResult) and is_global(dtype.callable, "numpy.dtype"):
            with contextlib.suppress(UnknownDtypeError):
                return item_bytes(dtype.args, dtype.state)
        raise self.unreadable(
            "an array's dtype is not understood", "Convert the array to a numeric dtype and save again."
        )

    # --- what is worth remembering

    def new_dict(self) -> None:
        made = TrackedDict()
        self.findings.objects += 1
        if self._described is not None:
            self._described.append(made)
        self.push(made)

    def set_item(self, target: Any, key: Any, value: Any) -> None:
        if isinstance(target, TrackedDict):
            target.set(key, value)
        if key == "_sklearn_version" and type(value) is str:
            self.findings.sklearn_versions.add(value)
        elif key == "feature_names_in_":  # the last one is the outermost estimator's: states are set from inside out
            self.findings.feature_names = strings_of_array(value) or self.findings.feature_names
        elif key in ("n_features_in_", "_n_features") and type(value) is int and len(self.findings.widths) < WIDTHS_MAX:
            self.findings.widths.add(value)
        elif key == "_sklearn_output_config":
            self.findings.sets_output = True
        elif key == "formula" and value is not None:
            self.findings.formulas.add(value if type(value) is str else "")

    def begin_frame(self) -> None:
        size = self.take_number(8)
        if self._in_frame():
            raise self.unreadable("a frame begins inside another")
        self._frame_end = self._taken + size

    def _in_frame(self) -> bool:
        return self._frame_end is not None and self._taken < self._frame_end

    def _leave_frame(self) -> None:
        if self._frame_end != self._taken:
            raise self.unreadable("a frame ends inside an opcode")
        self._frame_end = None

    def memoize(self, index: int) -> None:
        self.memo[index] = self.stack[-1]
        self.findings.objects += 1

    def recall(self, index: int) -> None:
        value = self.memo[index]
        if type(value) is CallResult:
            self.refuse_wrappers((value,))
        self.push(value)

    def new_object(self) -> None:
        args, made_by = self.pop(), self.pop()
        if is_global(made_by, ARRAY_WRAPPER) and args == ():
            self._described = []
            self.push(CallResult(made_by, args))
        else:
            self.make(made_by, args)
