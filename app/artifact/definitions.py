"""Takes definitions out of a script by its syntax tree: what some names need, and nothing that would run beside them."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final

from msgspec import Struct

from app.artifact.script_blocks import bound_or_changed, opened
from app.artifact.statements import (
    DEFINITIONS,
    IMPORTS,
    bound_names,
    changed_names,
    defines,
    is_main_block,
    names_at_top,
    root_names,
    used_names,
)

EVERYTHING: Final = frozenset({"*"})
"""Asks for all definitions of a script."""


class Definitions(Struct, frozen=True):
    """What was taken out of a script.

    source: the script's text with every other statement blanked, so that line numbers stay. What was taken out of a block
    stands where it stood, without the block. names: what it defines.
    computed: names that the definitions use and that only the rest of the script computes.
    """

    source: str
    names: tuple[str, ...]
    computed: tuple[str, ...]


def runs_nothing(tree: ast.Module, wanted: Collection[str] = ()) -> bool:
    """Return whether importing a module defines what is wanted, and does nothing else: then nothing is taken out of it.

    What it defines if it is `__main__` it does not define when it is imported.
    """
    main_blocks = [node for node in tree.body if is_main_block(node)]
    others = [node for node in tree.body if not is_main_block(node)]
    if not all(defines(node) or _is_docstring(node) for node in others):
        return False
    only_in_main = {name for node in main_blocks for name in bound_names(node)}
    return only_in_main.isdisjoint(wanted) and only_in_main.isdisjoint(
        {name for node in others for name in used_names(node)} if only_in_main else ()
    )


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
        self._wanted = set(wanted)
        self._statements = opened(tree)
        self._bound: dict[str, list[ast.stmt]] = defaultdict(list)
        for node in self._statements:
            for name in bound_or_changed(node):
                self._bound[name].append(node)
        own = (node for node in self._statements if isinstance(node, (*DEFINITIONS, ast.Assign)))
        self._own = {name for node in own for name in bound_names(node)}
        self._kept = {id(node): node for node in self._statements if _is_always_kept(node)}
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
        used = {name for node in kept for name in used_names(node)} | self._wanted
        return Definitions(
            _blanked(source, self._tree, self._statements, self._kept),
            tuple(sorted(names)),
            tuple(sorted(used & self._computed)),
        )

    def _take(self, names: set[str]) -> None:
        pending = names - self._seen
        while pending:
            name = pending.pop()
            self._seen.add(name)
            for node in self._bound.get(name, ()):
                if not defines(node):
                    self._computed |= set() if hasattr(builtins, name) else {name}
                elif id(node) not in self._kept:
                    self._kept[id(node)] = node
                    pending |= used_names(node) - self._seen

    def _keep(self, node: ast.stmt) -> None:
        self._kept[id(node)] = node
        self._take({*used_names(node), *bound_names(node)})

    def _registered(self) -> list[ast.stmt]:
        """Return further definitions that a kept one hears of.

        They are those that it decorates, its subclasses, and functions that fill it.
        """
        kept = {name for node in self._kept.values() for name in bound_names(node)} & self._own
        return [
            node
            for node in self._statements
            if isinstance(node, DEFINITIONS)
            and id(node) not in self._kept
            and kept & {*_heads(node), *changed_names(node)}
        ]

    def _drop_what_cannot_be_made(self) -> None:
        """Drop constants that are made of computed names, and count theirs as computed too."""
        dropped = True
        while dropped:
            dropped = False
            for key, node in list(self._kept.items()):
                if not isinstance(node, (*DEFINITIONS, *IMPORTS)) and names_at_top(node) & self._computed:
                    del self._kept[key]
                    self._computed |= {*bound_names(node), *changed_names(node)}
                    dropped = True


def _heads(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a definition's decorators and bases start from."""
    for expression in (*getattr(node, "decorator_list", ()), *getattr(node, "bases", ())):
        yield from root_names(expression)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_always_kept(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*")


def _blanked(source: str, tree: ast.Module, statements: list[ast.stmt], kept: dict[int, ast.stmt]) -> str:
    """Return the text of a script with only the kept ones of its statements; those out of blocks are written anew."""
    at_top = {id(node) for node in tree.body}
    wanted = {number for node in kept.values() if id(node) in at_top for number in lines(node)}
    if any(wanted & {*lines(node)} for node in tree.body if id(node) not in kept):
        # A statement that is left out shares a line with one that is kept.
        return "\n".join(ast.unparse(node) for node in statements if id(node) in kept) + "\n"
    out_of_blocks: dict[int, list[str]] = defaultdict(list)
    for node in statements:
        if id(node) in kept and id(node) not in at_top:
            out_of_blocks[lines(node)[0]] += ast.unparse(node).strip("\n").split("\n")
    text: list[str] = []
    for number, line in enumerate(source.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if number in wanted:
            text.append(line)
        elif number in out_of_blocks:
            text += out_of_blocks[number]
        elif len(text) < number:  # else something out of a block became longer
            text.append("")
    return "\n".join(text).rstrip() + "\n"


def lines(node: ast.stmt) -> range:
    first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])
    return range(first, (node.end_lineno or node.lineno) + 1)
