"""The opcodes: each takes its arguments from the stream and does to the stack what Python's unpickler does."""

from __future__ import annotations

from typing import Any, Final

from app.artifact.pickles.literals import LITERALS, constant
from app.artifact.pickles.symbols import (
    HOOKS,
    MARK,
    NOTABLE_KEYS,
    OPAQUE,
    CallResult,
    TrackedDict,
    callables,
    may_be_text,
)
from app.artifact.pickles.walker import Handler, PickleScanner

CATEGORIES: Final = "pandas_categorical"
"""The key under which a booster of LightGBM keeps the categories of its columns."""

MAX_KEPT: Final = 4096  # items of a list or tuple that are remembered


def _mark(walker: PickleScanner) -> None:
    walker.push(MARK)


def _pop(walker: PickleScanner) -> None:
    walker.stack.pop()


def _pop_mark(walker: PickleScanner) -> None:
    walker.to_mark()


def _duplicate(walker: PickleScanner) -> None:
    walker.push(walker.stack[-1])


def _empty_list(walker: PickleScanner) -> None:
    walker.findings.objects += 1
    walker.push([])


def _append(walker: PickleScanner) -> None:
    item = walker.pop()
    _extend(walker, walker.stack[-1], [item])


def _appends(walker: PickleScanner) -> None:
    items = walker.to_mark()
    _extend(walker, walker.stack[-1], items)


def _extend(walker: PickleScanner, target: Any, items: list[Any]) -> None:
    walker.refuse_wrappers(items)
    walker.add_to(target)
    if isinstance(target, list) and len(target) < MAX_KEPT:
        target.extend(items[: MAX_KEPT - len(target)])


def _list(walker: PickleScanner) -> None:
    items = walker.to_mark()
    walker.refuse_wrappers(items)
    walker.findings.objects += 1
    walker.push(items[:MAX_KEPT])


def _tuple(walker: PickleScanner) -> None:
    _push_tuple(walker, tuple(walker.to_mark()))


def _push_tuple(walker: PickleScanner, items: tuple[Any, ...]) -> None:
    walker.refuse_wrappers(items)
    walker.findings.objects += 1
    walker.push(items)


def _short_tuple(size: int) -> Handler:
    def handler(walker: PickleScanner) -> None:
        _push_tuple(walker, tuple([walker.pop() for _ in range(size)])[::-1])

    return handler


def _dict(walker: PickleScanner) -> None:
    items = walker.to_mark()
    walker.new_dict()
    _set_pairs(walker, walker.stack[-1], items)


def _set_item(walker: PickleScanner) -> None:
    value, key = walker.pop(), walker.pop()
    _set_pairs(walker, walker.stack[-1], [key, value])


def _set_items(walker: PickleScanner) -> None:
    items = walker.to_mark()
    _set_pairs(walker, walker.stack[-1], items)


def _set_pairs(walker: PickleScanner, target: Any, items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError("a key without a value")
    walker.refuse_wrappers(items)
    walker.change(target)
    for index in range(0, len(items), 2):
        key = items[index]
        if type(key) is str and key in HOOKS:
            walker.findings.called |= callables(items[index + 1])
        if type(key) is str and key == CATEGORIES and items[index + 1]:
            walker.findings.has_categories = True
        if type(key) is str and key in NOTABLE_KEYS:
            walker.set_item(target, key, items[index + 1])
            continue
        is_computed = may_be_text(key)
        walker.findings.computed_keys |= is_computed
        if type(target) is TrackedDict:
            target.clean = False
            target.has_computed_keys |= is_computed
        elif type(target) is CallResult:
            target.has_state |= is_computed
    if type(target) is CallResult:
        target.has_items = True


def _empty_set(walker: PickleScanner) -> None:
    walker.push(OPAQUE)


def _add_items(walker: PickleScanner) -> None:
    items = walker.to_mark()
    if not walker.stack:
        raise ValueError("no set to add to")
    walker.refuse_wrappers(items)
    walker.add_to(walker.stack[-1])


def _frozen_set(walker: PickleScanner) -> None:
    walker.refuse_wrappers(walker.to_mark())
    walker.push(OPAQUE)


def _get_line(walker: PickleScanner) -> None:
    walker.recall(int(walker.take_line()))


def _get(size: int) -> Handler:
    return lambda walker: walker.recall(walker.take_number(size))


def _put_line(walker: PickleScanner) -> None:
    walker.memoize(int(walker.take_line()))


def _put(size: int) -> Handler:
    return lambda walker: walker.memoize(walker.take_number(size))


def _memoize(walker: PickleScanner) -> None:
    walker.memoize(len(walker.memo))


def _global(walker: PickleScanner) -> None:
    module = walker.take_line().decode("utf-8")
    walker.import_global(module, walker.take_line().decode("utf-8"))


def _stack_global(walker: PickleScanner) -> None:
    name, module = walker.pop(), walker.pop()
    walker.import_global(module, name)


def _instance(walker: PickleScanner) -> None:
    args = tuple(walker.to_mark())
    _global(walker)
    walker.call(walker.pop(), args)


def _object(walker: PickleScanner) -> None:
    made_by, *args = walker.to_mark()
    walker.call(made_by, tuple(args))


def _reduce(walker: PickleScanner) -> None:
    args, made_by = walker.pop(), walker.pop()
    walker.call(made_by, args)


def _new_object_with_keywords(walker: PickleScanner) -> None:
    keywords, args, made_by = walker.pop(), walker.pop(), walker.pop()
    walker.refuse_wrappers((keywords,))
    walker.make(made_by, args)


def _new_dict(walker: PickleScanner) -> None:
    walker.new_dict()


def _build(walker: PickleScanner) -> None:
    walker.build()


def _new_object(walker: PickleScanner) -> None:
    walker.new_object()


def _frame(walker: PickleScanner) -> None:
    walker.begin_frame()


def _protocol(walker: PickleScanner) -> None:
    version = walker.take_number(1)
    if version > 5:
        raise ValueError(f"pickle protocol {version} is not known")
    walker.protocol = version


def stop(walker: PickleScanner) -> None:
    """End the walk, which looks for this handler."""


def _refused(what: str, hint: str) -> Handler:
    def handler(walker: PickleScanner) -> None:
        raise walker.unreadable(what, hint)

    return handler


_EXTENSION = _refused(
    "it imports through a number of the extension registry", "Save the model again with pickle or joblib."
)


def _persistent(walker: PickleScanner) -> None:
    """Take a persistent id, which stands for a tensor's content in the pickles of PyTorch's archives.

    Raises UnreadableArtifact elsewhere, where nobody knows what it means.
    """
    if not walker.has_tensors:
        raise walker.unreadable(
            "it refers to objects outside the file (persistent ids, as PyTorch files do)",
            "Save a PyTorch model with torch.jit.save or torch.export.save; anything else with pickle or joblib.",
        )
    walker.pop()
    walker.push(OPAQUE)


_BUFFER = _refused("it refers to buffers outside the file", "Save it without a buffer_callback.")

HANDLERS: Final[dict[bytes, Handler]] = {
    **LITERALS,
    b"]": _empty_list,
    b"a": _append,
    b"e": _appends,
    b"l": _list,
    b")": constant(()),
    b"t": _tuple,
    b"\x85": _short_tuple(1),
    b"\x86": _short_tuple(2),
    b"\x87": _short_tuple(3),
    b"}": _new_dict,
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
    b"b": _build,
    b"i": _instance,
    b"o": _object,
    b"\x81": _new_object,
    b"\x92": _new_object_with_keywords,
    b"\x80": _protocol,
    b".": stop,
    b"\x95": _frame,
    b"P": _refused("it refers to objects outside the file by a line of text", "Save the model again."),
    b"Q": _persistent,
    b"\x97": _BUFFER,
    b"\x98": _BUFFER,
}
