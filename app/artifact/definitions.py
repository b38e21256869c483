"""Takes definitions out of a script by its syntax tree: what some names need, and nothing that would run beside them."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

from msgspec import Struct

EVERYTHING: Final = frozenset({"*"})
"""Asks for all definitions of a script."""

_QUIET_MODULES: Final = """
math cmath np numpy re string datetime dt collections itertools functools operator typing t enum decimal fractions
pathlib logging statistics
"""
QUIET_MODULES: Final = frozenset(_QUIET_MODULES.split())
_QUIET_CALLS: Final = """
TypeVar ParamSpec NewType namedtuple NamedTuple frozenset set tuple list dict range float int str bytes len min max
sum abs round sorted zip enumerate map filter compile getLogger partial Counter OrderedDict defaultdict Path PurePath
Decimal Fraction timedelta datetime date sqrt device is_available tensor dtype catch_warnings split rsplit splitlines
strip lower upper title join format replace keys values items copy union get
"""
QUIET_CALLS: Final = frozenset(_QUIET_CALLS.split())
"""Calls that a constant at the top of a script may be made with: of these modules, or with these last names."""

_LOUD_CALLS: Final = """
load loadtxt genfromtxt fromfile memmap save savez savetxt tofile open read_text read_bytes write_text write_bytes
unlink mkdir rmdir touch rename iterdir glob rglob basicConfig
"""
LOUD_CALLS: Final = frozenset(_LOUD_CALLS.split())
"""Calls of those modules that are more than a constant."""

CHANGES: Final = frozenset(["append", "extend", "add", "update", "insert", "setdefault", "register"])
VALUES: Final = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Starred, ast.Subscript),
    *(ast.Slice, ast.Lambda, ast.JoinedStr, ast.FormattedValue, ast.IfExp, ast.comprehension, ast.ListComp),
    *(ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.keyword),
    *(ast.arguments, ast.arg, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS: Final = (ast.Import, ast.ImportFrom)


class Definitions(Struct, frozen=True):
    """What was taken out of a script.

    source: the script's text with every other statement blanked, so that line numbers stay. names: what it defines.
    computed: names that the definitions use and that only the rest of the script computes.
    """

    source: str
    names: tuple[str, ...]
    computed: tuple[str, ...]


def runs_nothing(tree: ast.Module) -> bool:
    """Return whether importing a module does no more than to define things: then nothing has to be taken out of it."""
    return all(_defines(node) or _is_docstring(node) or _is_main_block(node) for node in tree.body)


def definitions_of(source: str, tree: ast.Module, wanted: Collection[str]) -> Definitions:
    """Take the definitions of the wanted names, with all that they use: functions, classes, constants and imports.

    wanted: names at the top of the script, with EVERYTHING among them for all.
    """
    return _Taking(tree, wanted).definitions(source)


class _Taking:
    """One walk from the wanted names to all that they use.

    `_bound`: every statement that binds or changes a name. `_own`: names of definitions and constants. `_kept`: what is taken. `_computed`: names that some other
    statement binds or changes, so that their value here would be another one.
    """

    def __init__(self, tree: ast.Module, wanted: Collection[str]) -> None:
        self._tree = tree
        self._bound: dict[str, list[ast.stmt]] = defaultdict(list)
        for node in tree.body:
            changed = () if isinstance(node, DEFINITIONS) else _changed_names(node)
            for name in {*bound_names(node), *changed}:
                self._bound[name].append(node)
        own = (node for node in tree.body if isinstance(node, (*DEFINITIONS, ast.Assign)))
        self._own = {name for node in own for name in bound_names(node)}
        self._kept = {id(node): node for node in tree.body if _is_always_kept(node)}
        self._seen: set[str] = set()
        self._computed: set[str] = set()
        self._take(set(self._bound) if not EVERYTHING.isdisjoint(wanted) else set(wanted))
        while registered := self._registered():
            for node in registered:
                self._keep(node)
        self._drop_what_cannot_be_made()

    def definitions(self, source: str) -> Definitions:
        kept = self._kept.values()
        names = {name for node in kept if isinstance(node, DEFINITIONS) for name in bound_names(node)}
        used = {name for node in kept for name in _used_names(node)}
        return Definitions(
            _blanked(source, self._tree, self._kept), tuple(sorted(names)), tuple(sorted(used & self._computed))
        )

    def _take(self, names: set[str]) -> None:
        pending = names - self._seen
        while pending:
            name = pending.pop()
            self._seen.add(name)
            for node in self._bound.get(name, ()):
                if not _defines(node):
                    self._computed |= set() if hasattr(builtins, name) else {name}
                elif id(node) not in self._kept:
                    self._kept[id(node)] = node
                    pending |= _used_names(node) - self._seen

    def _keep(self, node: ast.stmt) -> None:
        self._kept[id(node)] = node
        self._take({*_used_names(node), *bound_names(node)})

    def _registered(self) -> list[ast.stmt]:
        """Return further definitions that a kept one hears of.

        They are those that it decorates, its subclasses, and functions that fill it.
        """
        kept = {name for node in self._kept.values() for name in bound_names(node)} & self._own
        return [
            node
            for node in self._tree.body
            if isinstance(node, DEFINITIONS)
            and id(node) not in self._kept
            and kept & {*_heads(node), *_changed_names(node)}
        ]

    def _drop_what_cannot_be_made(self) -> None:
        """Drop constants that are made of computed names, and count theirs as computed too."""
        dropped = True
        while dropped:
            dropped = False
            for key, node in list(self._kept.items()):
                if (
                    not isinstance(node, (*DEFINITIONS, *IMPORTS))
                    and _names_at_top(node, _table(node)) & self._computed
                ):
                    del self._kept[key]
                    self._computed |= {*bound_names(node), *_changed_names(node)}
                    dropped = True


def bound_names(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module binds."""
    if isinstance(node, DEFINITIONS):
        yield node.name
    elif isinstance(node, IMPORTS):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    else:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id
            elif inner is not node and isinstance(inner, DEFINITIONS + IMPORTS):
                yield from bound_names(inner)


def _changed_names(node: ast.stmt) -> Iterator[str]:
    """Yield the names whose objects a statement may change: by an item, an attribute, or a method such as `append`."""
    for inner in ast.walk(node):
        is_stored = isinstance(inner, ast.Attribute | ast.Subscript) and isinstance(inner.ctx, ast.Store | ast.Del)
        is_called = isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in CHANGES
        if is_stored or is_called:
            yield from _root(inner.func if isinstance(inner, ast.Call) else inner)


def _root(node: ast.AST) -> Iterator[str]:
    """Yield the name that an attribute, an item or a call starts from."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return
    yield node.id


def _heads(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a definition's decorators and bases start from."""
    for expression in (*getattr(node, "decorator_list", ()), *getattr(node, "bases", ())):
        yield from _root(expression)


def _defines(node: ast.stmt) -> bool:
    """Return whether a statement defines or imports something, and does nothing else worth mentioning."""
    if isinstance(node, (*DEFINITIONS, *IMPORTS, ast.Pass)):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return node.value is None or _is_quiet(node.value)
    if isinstance(node, ast.Expr):
        call = node.value
        is_change = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in CHANGES
        return is_change and isinstance(call, ast.Call) and all(map(_is_quiet, _arguments(call)))
    if isinstance(node, ast.Try):
        handled = [statement for handler in node.handlers for statement in handler.body]
        return all(map(_defines, (*node.body, *handled, *node.orelse, *node.finalbody)))
    if isinstance(node, ast.If):
        return not _is_main_block(node) and _is_quiet(node.test) and all(map(_defines, (*node.body, *node.orelse)))
    if isinstance(node, ast.With):
        return all(_is_quiet(item.context_expr) for item in node.items) and all(map(_defines, node.body))
    return False


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def _is_quiet(value: ast.expr) -> bool:
    return all(
        isinstance(node, VALUES) or (isinstance(node, ast.Call) and _is_quiet_call(node.func))
        for node in ast.walk(value)
    )


def _is_quiet_call(function: ast.expr) -> bool:
    last = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if last in LOUD_CALLS:
        return False
    of_quiet_module = isinstance(function, ast.Attribute) and not QUIET_MODULES.isdisjoint(_root(function))
    return of_quiet_module or last in QUIET_CALLS


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in {
        inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)
    }


def _is_always_kept(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*")


def _table(node: ast.stmt) -> symtable.SymbolTable | None:
    with suppress(SyntaxError, ValueError, RecursionError):
        return symtable.symtable(ast.unparse(node), "script", "exec")
    return None


def _names_at_top(node: ast.stmt, table: symtable.SymbolTable | None) -> set[str]:
    """Return the names that a statement uses when it runs, beside those that functions in it use when called."""
    if table is None:
        return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}


def _used_names(node: ast.stmt) -> set[str]:
    """Return the names of the module that a statement uses, also within functions and in annotations."""
    table = _table(node)
    names = _names_at_top(node, table) | set(_names_in_annotations(node))
    pending = list(table.get_children()) if table is not None else []
    while pending:
        scope = pending.pop()
        in_class = scope.get_type() == "class"  # where a name of its own is the module's one until it is bound
        names |= {
            symbol.get_name()
            for symbol in scope.get_symbols()
            if symbol.is_global() or (in_class and symbol.is_referenced())
        }
        pending += scope.get_children()
    return names


def _names_in_annotations(node: ast.stmt) -> Iterator[str]:
    """Yield the names in annotations, which may be texts and may be read by decorators such as `dataclass`."""
    for inner in ast.walk(node):
        for annotation in (getattr(inner, "annotation", None), getattr(inner, "returns", None)):
            for part in ast.walk(annotation) if isinstance(annotation, ast.AST) else ():
                if isinstance(part, ast.Name):
                    yield part.id
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    with suppress(SyntaxError, ValueError, RecursionError):
                        yield from (
                            name.id
                            for name in ast.walk(ast.parse(part.value, mode="eval"))
                            if isinstance(name, ast.Name)
                        )


def _blanked(source: str, tree: ast.Module, kept: dict[int, ast.stmt]) -> str:
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    wanted = {number for node in kept.values() for number in _lines(node)}
    if any(wanted & {*_lines(node)} for node in tree.body if id(node) not in kept):
        # A statement that is left out shares a line with one that is kept.
        return "\n".join(ast.unparse(node) for node in tree.body if id(node) in kept) + "\n"
    return "\n".join(line if number in wanted else "" for number, line in enumerate(lines, 1)).rstrip() + "\n"


def _lines(node: ast.stmt) -> range:
    first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])
    return range(first, (node.end_lineno or node.lineno) + 1)
