"""Inputs declared by the owner: names, datatypes and shapes against which each request is checked."""

from __future__ import annotations

import math
from typing import Any, Dict, FrozenSet, List, Optional, Sequence

import numpy as np

from model_container.adapters.base import tensor
from model_container.bodies.content import Content, Rows, no_rows
from model_container.bodies.problems import Problem
from model_container.bodies.table import Column, Table, wrong_columns
from model_container.bodies.values import A_DATE, ANY, DATETIME, NEVER, Place, array_of


class Ports:
    """Declared inputs. inputs: as in a signature; −1 in a shape is any size.

    Columns (shape [−1]) are read like a table.
    """

    def __init__(self, inputs: Sequence[Dict[str, Any]]) -> None:
        self._inputs = [{**port, "shape": list(port["shape"])} for port in inputs]
        self.names: FrozenSet[str] = frozenset(port["name"] for port in inputs)
        self.have_rows = all(port["shape"][:1] == [-1] for port in self._inputs)
        self.is_table = all(port["shape"] == [-1] for port in self._inputs)
        self._table = Table(
            [Column(port["name"], port["datatype"], _missing(port)) for port in self._inputs], named=True
        )

    @property
    def table(self) -> Optional[Table]:
        return self._table if self.is_table else None

    def arrays(self, content: Content) -> List[Any]:
        """Convert a request's content to arrays. Raises Problem naming what does not fit."""
        if self.is_table:
            return self._table.arrays(content)
        if isinstance(content, Rows):
            if len(self._inputs) > 1:
                raise wrong_columns([port["name"] for port in self._inputs], [])
            values = {self._inputs[0]["name"]: content.values}
        else:
            values = content.values
        if values.keys() != self.names:
            raise wrong_columns([port["name"] for port in self._inputs], list(values))
        arrays = [_array(port, values[port["name"]]) for port in self._inputs]
        if self.have_rows:
            _check_rows(self._inputs, arrays)
        return arrays

    @property
    def texts(self) -> FrozenSet[str]:
        return frozenset(port["name"] for port in self._inputs if port["datatype"] == "BYTES")

    def by_name(self, arrays: List[Any]) -> Dict[str, Any]:
        """Return the arrays by input name. arrays: as returned by `arrays`, of one request or several joined."""
        names = [port["name"] for port in self._inputs]
        if self.is_table and len(arrays) == 1 and arrays[0].ndim == 2:
            arrays = [np.ascontiguousarray(column) for column in arrays[0].T]
        return dict(zip(names, arrays))

    def described(self) -> List[Dict[str, Any]]:
        return [tensor(port["name"], port["datatype"], port["shape"]) for port in self._inputs]

    def samples(self) -> List[Any]:
        values = {port["name"]: _sample(port) for port in self._inputs}
        if self.is_table:
            return [{name: value[0] for name, value in values.items()}]
        return [{"inputs": values}]


def _missing(port: Dict[str, Any]) -> Any:
    return NEVER if port["datatype"] == "BYTES" else math.nan


def _array(port: Dict[str, Any], value: Any) -> Any:
    """Convert one input. A single row may come without its first dimension."""
    shape = port["shape"]
    nested = value if isinstance(value, (list, np.ndarray)) else [value]
    array = array_of(nested, port["datatype"], _place(port["name"]), NEVER if port["datatype"] == "BYTES" else None)
    if not shape and array.size == 1:
        return array.reshape(())
    if array.ndim == len(shape) - 1 and shape[0] in (-1, 1):
        array = array[np.newaxis]
    if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape)):
        raise Problem(
            422,
            "wrong_shape",
            f"Input {port['name']!r} has the shape {list(array.shape)}; the model takes {shape}.",
            "-1 stands for any size; nest the lists accordingly.",
            expected=shape,
            got=list(array.shape),
        )
    return array


def _check_rows(inputs: List[Dict[str, Any]], arrays: List[Any]) -> None:
    lengths = [len(array) for array in arrays]
    if 0 in lengths:
        raise no_rows()
    if len(set(lengths)) > 1:
        listing = ", ".join(f"{port['name']!r} {length}" for port, length in zip(inputs, lengths))
        raise Problem(422, "ragged_rows", f"The inputs differ in their number of rows: {listing}.", lengths=lengths)


def _sample(port: Dict[str, Any]) -> Any:
    value: Any = (
        A_DATE
        if port["datatype"] == DATETIME
        else "a" if port["datatype"] == "BYTES" else True if port["datatype"] == "BOOL" else 1
    )
    if port["datatype"] in ("FP16", "BF16", "FP32", "FP64", ANY):
        value = 1.0
    for size in reversed(port["shape"]):
        value = [value] * (1 if size == -1 else size)
    return value


def _place(name: str) -> Place:
    return lambda index: (
        f"Input {name!r}, row {index[0]}" + (f", position {list(index[1:])}" if index[1:] else ""),
        {"input": name, "row": index[0], "position": list(index[1:])},
    )
