"""Finds the source of what a session or script defines, and which names of its module a definition uses."""

from __future__ import annotations

import ast
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from prism.errors import InvalidRequest

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def source_of(value: Any) -> str:
    """Return the source of a class or function: of a file or a notebook's cell, from its top or from a block there."""
    places = {(code.co_filename, code.co_firstlineno) for code in _codes(value)}
    files = {filename for filename, _ in places}
    for filename in (*files, *(_files_without_code(value) if isinstance(value, type) else ())):
        linecache.checkcache(filename)
        lines = linecache.getlines(filename, vars(sys.modules["__main__"]))
        with suppress(SyntaxError, ValueError):
            found = [node for node in _definitions_in(ast.parse("".join(lines)).body) if node.name == value.__name__]
            here = [node for node in found if any((filename, line) in places for line in _lines_of(node))]
            if here or (found and isinstance(value, type) and filename not in files):
                return _text_of((here or found)[-1], lines)
    raise InvalidRequest(
        f"The source of `{value.__qualname__}` is not known: it was typed into an interpreter, or made by a call.",
        hint="Define it with `class` or `def` in a file or a notebook, or deploy the model from a file with `code_files`.",
    )


def registers_itself(source: str) -> bool:
    """Return whether a definition has a decorator such as `@area.register` or `@area.register(int)`."""
    (node,) = _definitions_in(ast.parse(source).body)
    decorators = (part.func if isinstance(part, ast.Call) else part for part in node.decorator_list)
    return any(isinstance(part, ast.Attribute) and part.attr == "register" for part in decorators)


def used_names(source: str) -> set[str]:
    """Return the names of the module that a definition uses, also within its functions."""
    table = symtable.symtable(source, "session", "exec")
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    pending = list(table.get_children())
    while pending:
        scope = pending.pop()
        in_class = scope.get_type() == "class"  # where a name of its own is the module's one until it is bound
        symbols = scope.get_symbols()
        names |= {each.get_name() for each in symbols if each.is_global() or (in_class and each.is_referenced())}
        pending += scope.get_children()
    return names


def _codes(value: Any) -> Iterator[CodeType]:
    """Yield the code of a function, or of a class's own methods."""
    if isinstance(value, FunctionType):
        yield value.__code__
        return
    for each in vars(value).values():
        function = inspect.unwrap(getattr(each, "fget", None) or getattr(each, "__func__", None) or each)
        if isinstance(function, FunctionType) and function.__qualname__.startswith(f"{value.__qualname__}."):
            yield function.__code__


def _files_without_code(value: type) -> Iterator[str]:
    """Yield where a class may be defined of which no method tells: in its module's file, or in the cell run last."""
    yield from filter(None, [getattr(sys.modules[value.__module__], "__file__", None)])
    for filename in reversed(list(linecache.cache)):
        if not Path(filename).exists():  # a cell has a name of its own and no file
            yield filename


def _definitions_in(statements: list[ast.stmt]) -> Iterator[Definition]:
    """Yield the definitions at the top of a module and in its blocks, in their order."""
    for node in statements:
        if isinstance(node, Definition):
            yield node
            continue
        for part in ("body", "handlers", "cases", "orelse", "finalbody"):
            yield from _definitions_in(getattr(node, part, []))


def _lines_of(node: Definition) -> range:
    first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
    return range(first, (node.end_lineno or first) + 1)


def _text_of(node: Definition, lines: list[str]) -> str:
    """Return the text of a definition, at the top of a module. What stood in a block stays as it was in one of its own."""
    own = _lines_of(node)
    text = "".join(lines[own.start - 1 : own.stop - 1]).rstrip()
    return f"if True:\n{text}" if node.col_offset else text
