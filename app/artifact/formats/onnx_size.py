"""Computes the size of an ONNX model once its functions stand in the place of their calls, as onnxruntime puts them.

A few functions that call each other twice make billions of nodes of some kilobytes; what loads them never ends.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

NODES_MAX: Final = 500_000
"""Most nodes in a file, in all of its graphs and functions; the largest known models have some ten thousand."""

EXPANDED_NODES_MAX: Final = 1_000_000
FUNCTIONS_MAX: Final = 10_000
CALLS_DEEP_MAX: Final = 64
"""Most calls within calls. Exporters that make a function of each module call as deep as modules are nested."""

Function = tuple[str, str, str]
"""A function by its domain, name and overload."""


class Expanded(NamedTuple):
    """The size of a body with all functions in the place of their calls. depth: that of its calls, 1 for none."""

    nodes: int
    depth: int


class TooLargeError(Exception):
    """The error for a model that is too large. Its message names what there is too much of, and the limit."""


class OnnxSize:
    """A count of nodes as they are read; those of a function come between `begin_function` and `end_function`."""

    def __init__(self) -> None:
        self._nodes = 0
        self._main: Counter[Function] = Counter()
        self._body = self._main
        self._functions: dict[Function, Counter[Function]] = {}

    def node(self, calls: Function) -> None:
        """Count one node. calls: its operator, which may be a function. Raises TooLargeError."""
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise TooLargeError(f"it has more than {NODES_MAX} nodes")
        self._body[calls] += 1

    def begin_function(self) -> None:
        self._body = Counter()

    def end_function(self, function: Function) -> None:
        if len(self._functions) >= FUNCTIONS_MAX:
            raise TooLargeError(f"it has more than {FUNCTIONS_MAX} functions")
        if function in self._functions:
            raise TooLargeError(f"it has the function `{function[1][:100]}` twice")
        self._functions[function] = self._body
        self._body = self._main

    def check(self) -> None:
        """Check the size with functions in the place of their calls. Raises TooLargeError."""
        sizes: dict[Function, Expanded] = {}
        for function in self._functions:
            self._measure(function, sizes)
        _expanded(self._main, sizes)

    def _measure(self, function: Function, sizes: dict[Function, Expanded]) -> None:
        """Fill in the sizes of this function and of all that it calls, the innermost first."""
        path = [(function, self._called(function))]
        under_way = {function}
        while path:
            present, pending = path[-1]
            if not pending:
                path.pop()
                under_way.discard(present)
                sizes[present] = _expanded(self._functions[present], sizes)
                continue
            called = pending.pop()
            if called in under_way:
                raise TooLargeError(f"the function `{called[1][:100]}` calls itself")
            if called not in sizes:
                path.append((called, self._called(called)))
                under_way.add(called)

    def _called(self, function: Function) -> list[Function]:
        return [callee for callee in self._functions[function] if callee in self._functions]


def _expanded(body: Counter[Function], sizes: dict[Function, Expanded]) -> Expanded:
    nodes = sum(number * (sizes[called].nodes if called in sizes else 1) for called, number in body.items())
    if nodes > EXPANDED_NODES_MAX:
        raise TooLargeError(f"with its functions inlined it has more than {EXPANDED_NODES_MAX} nodes")
    depth = 1 + max((sizes[called].depth for called in body if called in sizes), default=0)
    if depth > CALLS_DEEP_MAX:
        raise TooLargeError(f"calls of its functions nest more than {CALLS_DEEP_MAX} deep")
    return Expanded(nodes, depth)
