"""Tells what a statement of a script does: the names that it binds, changes and uses, and whether it only defines."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

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


def bound_names(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module binds."""
    if isinstance(node, DEFINITIONS):
        yield node.name
    elif isinstance(node, IMPORTS):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    else:
        pending: list[ast.AST] = [node]
        while pending:
            inner = pending.pop()
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id
            elif isinstance(inner, DEFINITIONS + IMPORTS):
                yield from bound_names(inner)
            else:
                pending += ast.iter_child_nodes(inner)


def changed_names(node: ast.stmt) -> Iterator[str]:
    """Yield the names whose objects a statement may change: by an item, an attribute, or a method such as `append`."""
    for inner in ast.walk(node):
        is_stored = isinstance(inner, ast.Attribute | ast.Subscript) and isinstance(inner.ctx, ast.Store | ast.Del)
        is_called = isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in CHANGES
        if is_stored or is_called:
            yield from root_names(inner.func if isinstance(inner, ast.Call) else inner)


def root_names(node: ast.AST) -> Iterator[str]:
    """Yield the name that an attribute, an item or a call starts from."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return
    yield node.id


def defines(node: ast.stmt) -> bool:
    """Return whether a statement defines or imports something, and does nothing else worth mentioning."""
    if isinstance(node, (*DEFINITIONS, *IMPORTS, ast.Pass)):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return node.value is None or is_quiet(node.value)
    if isinstance(node, ast.Expr):
        call = node.value
        is_change = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in CHANGES
        return is_change and isinstance(call, ast.Call) and all(map(is_quiet, _arguments(call)))
    if isinstance(node, ast.Try):
        handled = [statement for handler in node.handlers for statement in handler.body]
        return all(map(defines, (*node.body, *handled, *node.orelse, *node.finalbody)))
    if isinstance(node, ast.If):
        return not is_main_block(node) and is_quiet(node.test) and all(map(defines, (*node.body, *node.orelse)))
    if isinstance(node, ast.With):
        return all(is_quiet(item.context_expr) for item in node.items) and all(map(defines, node.body))
    return False


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def is_quiet(value: ast.expr) -> bool:
    return all(
        isinstance(node, VALUES) or (isinstance(node, ast.Call) and _is_quiet_call(node.func))
        for node in ast.walk(value)
    )


def _is_quiet_call(function: ast.expr) -> bool:
    last = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if last in LOUD_CALLS:
        return False
    of_quiet_module = isinstance(function, ast.Attribute) and not QUIET_MODULES.isdisjoint(root_names(function))
    return of_quiet_module or last in QUIET_CALLS


def is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in {
        inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)
    }


def _table(node: ast.stmt) -> symtable.SymbolTable | None:
    with suppress(SyntaxError, ValueError, RecursionError):
        return symtable.symtable(ast.unparse(node), "script", "exec")
    return None


def names_at_top(node: ast.stmt) -> set[str]:
    """Return the names that a statement uses when it runs, beside those that functions in it use when called."""
    return _names_in_table(node, _table(node))


def _names_in_table(node: ast.stmt, table: symtable.SymbolTable | None) -> set[str]:
    if table is None:
        return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}


def used_names(node: ast.stmt) -> set[str]:
    """Return the names of the module that a statement uses, also within functions and in annotations."""
    table = _table(node)
    names = _names_in_table(node, table) | set(_names_in_annotations(node))
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
