"""Opens the blocks of a script: what an `if`, `for`, `while`, `with` or `try` defines counts as defined at the top.

A script defines its classes also under `if __name__ == "__main__":`, or in a block that trains as well. A statement that
does more than define is only told apart here, and never kept.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from typing import Final

from app.artifact.statements import (
    DEFINITIONS,
    IMPORTS,
    bound_names,
    changed_names,
    defines,
    is_main_block,
    is_quiet,
    names_at_top,
)

BLOCKS: Final = (ast.If, ast.For, ast.While, ast.With, ast.Try)


def statements_of(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements at the top of a module and in its blocks, in their order."""
    yield from _with_inner(tree.body)


def _with_inner(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for node in statements:
        yield node
        if isinstance(node, BLOCKS):
            yield from _with_inner(_inner(node))


def opened(tree: ast.Module) -> list[ast.stmt]:
    """Return a script's statements, with definitions and other statements of its blocks in place of the blocks."""
    return list(_open(tree.body, _computed_names(list(_open(tree.body, frozenset())))))


def _computed_names(statements: Iterable[ast.stmt]) -> frozenset[str]:
    """Return the names whose values only the whole script computes, and those of all that is made of them."""
    values = [node for node in statements if not isinstance(node, (*DEFINITIONS, *IMPORTS))]
    made = [(names_at_top(node), {*bound_names(node)}) for node in values]
    computed = {name for node in values if not defines(node) for name in bound_or_changed(node)} - {*dir(builtins)}
    more = computed
    while more:
        more = {name for used, bound in made if not computed.isdisjoint(used) for name in bound} - computed
        computed |= more
    return frozenset(computed)


def bound_or_changed(node: ast.stmt) -> set[str]:
    """Return the names that a statement binds, and those whose objects it may change."""
    return {*bound_names(node), *(() if isinstance(node, DEFINITIONS) else changed_names(node))}


def _open(statements: Iterable[ast.stmt], computed: frozenset[str]) -> Iterator[ast.stmt]:
    """Yield statements of which each either only defines or is none to keep.

    computed: names whose value is not known. A block under a condition of these is opened, too.
    """
    for node in statements:
        if not isinstance(node, BLOCKS) or (defines(node) and _is_known(node, computed)):
            yield node
        elif isinstance(node, ast.Try):
            yield from _open_try(node, computed)
        elif is_main_block(node):
            yield from _open(_inner(node), computed)
        elif isinstance(node, ast.With):
            yield ast.copy_location(ast.With(node.items, [ast.Pass()]), node)
            yield from _open(node.body, computed)
        elif isinstance(node, ast.If) and _is_known(node, computed):
            yield from _open_known(node, computed)
        else:
            yield from _open_unknown(node, computed)


def _open_try(node: ast.Try, computed: frozenset[str]) -> Iterator[ast.stmt]:
    """Yield what a `try` statement does beside its definitions, and then these, tried as before."""
    body, orelse, final = (_Parts(part, computed) for part in (node.body, node.orelse, node.finalbody))
    handled = [_Parts(handler.body, computed) for handler in node.handlers]
    if body.others:
        # Whether one of these fails, and with it which of two values a name has, only the script knows.
        in_handlers = {name for handler in node.handlers for each in handler.body for name in bound_names(each)}
        body.set_aside(in_handlers)
    for part in (body, *handled, orelse, final):
        yield from part.others
    handlers = [
        ast.ExceptHandler(handler.type, handler.name, part.definitions or [ast.Pass()])
        for handler, part in zip(node.handlers, handled, strict=True)
    ]
    finalbody = final.definitions or ([] if handlers else [ast.Pass()])
    kept = ast.Try(body.definitions or [ast.Pass()], handlers, orelse.definitions, finalbody)
    yield ast.copy_location(kept, node)


def _open_known(node: ast.If, computed: frozenset[str]) -> Iterator[ast.stmt]:
    """Yield what a block does beside its definitions, and then these under its condition."""
    body, orelse = _Parts(node.body, computed), _Parts(node.orelse, computed)
    yield from (*body.others, *orelse.others)
    yield ast.copy_location(ast.If(node.test, body.definitions or [ast.Pass()], orelse.definitions), node)


def _open_unknown(node: ast.stmt, computed: frozenset[str]) -> Iterator[ast.stmt]:
    """Yield the definitions and imports of a block that runs more than once, or perhaps not at all.

    Its other statements come first, as one that is not kept, with a definition of which there are two to choose from.
    """
    inner = list(_open(_inner(node), computed))
    taken = [each for each in inner if isinstance(each, (*DEFINITIONS, *IMPORTS))]
    others = [each for each in inner if not isinstance(each, (*DEFINITIONS, *IMPORTS))]
    in_orelse = {name for each in getattr(node, "orelse", ()) for name in bound_names(each)}
    others += [each for each in getattr(node, "body", ()) if not in_orelse.isdisjoint(bound_names(each))]
    if isinstance(node, ast.For):
        others.append(ast.copy_location(ast.For(node.target, node.iter, [ast.Pass()], []), node))
    yield _not_kept(others, node)
    yield from taken


class _Parts:
    """Statements of a block in two parts: definitions that can stay in it, and others."""

    def __init__(self, statements: Iterable[ast.stmt], computed: frozenset[str]) -> None:
        self.definitions: list[ast.stmt] = []
        self.others: list[ast.stmt] = []
        for node in _open(statements, computed):
            is_definition = isinstance(node, (*DEFINITIONS, *IMPORTS))
            stays = defines(node) and (is_definition or computed.isdisjoint(names_at_top(node)))
            (self.definitions if stays else self.others).append(node)

    def set_aside(self, names: set[str]) -> None:
        """Count values of these names among the others."""
        for node in list(self.definitions):
            if not isinstance(node, (*DEFINITIONS, *IMPORTS)) and not names.isdisjoint(bound_names(node)):
                self.definitions.remove(node)
                self.others.append(_not_kept([node], node))


def _not_kept(statements: list[ast.stmt], node: ast.stmt) -> ast.stmt:
    """Return a statement that binds what these do, and that is none to keep, as no loop is."""
    return ast.copy_location(ast.While(ast.Constant(True), statements or [ast.Pass()], []), node)


def _inner(node: ast.stmt) -> list[ast.stmt]:
    """Return the statements directly within a block; of `if __name__ == "__main__":` those that `__main__` runs."""
    handlers = [statement for handler in getattr(node, "handlers", ()) for statement in handler.body]
    orelse = [] if is_main_block(node) else getattr(node, "orelse", [])
    return [*getattr(node, "body", ()), *handlers, *orelse, *getattr(node, "finalbody", ())]


def _is_known(node: ast.stmt, computed: frozenset[str]) -> bool:
    """Return whether it is known what a block's condition is."""
    if not isinstance(node, ast.If):
        return True
    names = {inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)}
    return not is_main_block(node) and is_quiet(node.test) and computed.isdisjoint(names)
