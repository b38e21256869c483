"""Conversion of a request's content to the columns of a tabular model, checked by name and by width."""

from __future__ import annotations

import difflib
import math
from typing import Any, Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

import numpy as np

from model_container.bodies.content import Content, Named, Rows, no_rows
from model_container.bodies.problems import Problem, shown
from model_container.bodies.values import ANY, NEVER, Place, array_of

MAX_NAMES_SHOWN = 8
LISTED = (list, np.ndarray)
"""Types that hold several values: an array was decoded from bytes, a list from JSON."""


class Column(NamedTuple):
    """Column of a table. datatype: of the array built for the model.

    missing: what null becomes in a column of strings or of ANY, see array_of. is_unused: the model drops the column, so a
    request may leave it out.
    """

    name: str
    datatype: str = "FP64"
    missing: Any = math.nan
    is_unused: bool = False


class Table:
    """Columns that a model takes.

    named: the model knows its columns by name, and a request may give them in any order. Otherwise an object's values
    are taken in the order in which they are given, unless its keys are the generated names of the signature. infinite:
    as for array_of. spaceless: the names were changed in training from ones that may have spaces in place of underscores.
    """

    def __init__(self, columns: Sequence[Column], named: bool, infinite: bool = False, spaceless: bool = False) -> None:
        self.columns = tuple(columns)
        self.named = named
        self.spaceless = spaceless
        self._infinite = infinite
        self.names = tuple(column.name for column in columns)
        self._known = frozenset(self.names)
        self._required = frozenset(column.name for column in columns if not column.is_unused)
        kinds = {(column.datatype, column.missing is None, column.missing is NEVER) for column in columns}
        self.uniform = len(kinds) == 1 and columns[0].datatype != ANY

    @property
    def known_names(self) -> FrozenSet[str]:
        return self._known

    @property
    def texts(self) -> FrozenSet[str]:
        """Return the names of the columns in which null is refused."""
        return frozenset(
            column.name for column in self.columns if column.datatype == "BYTES" and column.missing is NEVER
        )

    def fitted(self, content: Named, strict: bool) -> Tuple[Named, Tuple[str, ...]]:
        """Return the content under the names of the table, and the names that the table does not have and that were left
        out.

        The content is unchanged if columns are missing, so that the error lists all names. strict: leave nothing out.
        """
        values = content.values
        if self.spaceless:
            values = {self._renamed(name, values): value for name, value in values.items()}
        absent = self._known - values.keys()
        if not self.named or not self._required <= values.keys():
            return content, ()
        ignored = () if strict else tuple(name for name in values if name not in self._known)
        values = {name: value for name, value in values.items() if strict or name in self._known}
        length = next((len(value) for value in values.values() if isinstance(value, LISTED)), None)
        values.update(dict.fromkeys(absent, None if length is None else [None] * length))
        return content._replace(values=values), ignored

    def _renamed(self, name: str, values: Dict[str, Any]) -> str:
        other = name.replace(" ", "_")
        return other if name not in self._known and other in self._known and other not in values else name

    def arrays(self, content: Content) -> List[Any]:
        """Return one (rows, columns) matrix if all columns have one datatype, else one (rows,) array per column."""
        if not self.columns or (isinstance(content, Named) and content.has_no_rows):
            raise no_rows()
        if isinstance(content, Named):
            content = self._by_position(content)
        if isinstance(content, Rows):
            return self._from_rows(content.values)
        return self._from_columns([content.values[name] for name in self.names])

    def _by_position(self, content: Named) -> Content:
        """Return Rows where names carry no meaning: for one tensor that holds the whole matrix, or for a model without
        names.
        """
        values = content.values
        if len(values) == 1:
            (value,) = values.values()
            if isinstance(value, np.ndarray):
                is_matrix = value.ndim > 1
            else:
                is_matrix = isinstance(value, list) and bool(value) and isinstance(value[0], list)
            if len(self.columns) > 1 and (is_matrix or (isinstance(value, LISTED) and not self.named)):
                return Rows(value)
        if values.keys() == self._known:
            return content
        if not self.named and not self._known & values.keys():
            if len(values) != len(self.columns):
                raise self._wrong_width(len(values))
            return Named(dict(zip(self.names, values.values())))
        raise wrong_columns([name for name in self.names if name in self._required or name in values], list(values))

    def _from_rows(self, values: List[Any]) -> List[Any]:
        if isinstance(values, np.ndarray):
            return self._from_matrix(values)
        if not values:
            raise no_rows()
        if list not in set(map(type, values)):
            values = [[value] for value in values] if len(self.columns) == 1 else [values]
        if self.uniform:
            first = self.columns[0]
            matrix = array_of(values, first.datatype, self._place, first.missing, self._infinite)
            return [self._checked(matrix)]
        width = len(self.columns)
        for index, row in enumerate(values):
            if not isinstance(row, list) or len(row) != width:
                raise self._wrong_width(len(row) if isinstance(row, list) else 1, index)
        return self._by_column([list(column) for column in zip(*values)])

    def _from_matrix(self, matrix: Any) -> List[Any]:
        """Convert an array. A one-dimensional array is one column if the table has one, otherwise one row."""
        if matrix.ndim == 1:
            matrix = matrix.reshape(-1, 1) if len(self.columns) == 1 else matrix[np.newaxis]
        matrix = self._checked(matrix)
        if self.uniform:
            first = self.columns[0]
            return [array_of(matrix, first.datatype, self._place, first.missing, self._infinite)]
        return self._by_column(list(matrix.T))

    def _from_columns(self, columns: List[Any]) -> List[Any]:
        listed = [isinstance(values, LISTED) for values in columns]
        if not any(listed):
            return self._from_rows([columns])
        if not all(listed):
            single, several = self.names[listed.index(False)], self.names[listed.index(True)]
            raise Problem(
                422,
                "ragged_rows",
                f"Column {single!r} holds one value, but column {several!r} holds a list.",
                "Give each column one value for one row, or lists of equal length for several rows.",
            )
        columns = [_cells(values) for values in columns]
        lengths = [len(values) for values in columns]
        if len(set(lengths)) > 1:
            listing = ", ".join(f"{name!r} {length}" for name, length in zip(self.names, lengths))
            raise Problem(422, "ragged_rows", f"The columns differ in length: {listing}.", lengths=lengths)
        if not lengths[0]:
            raise no_rows()
        if not self.uniform:
            return self._by_column(columns)
        if any(isinstance(values, np.ndarray) for values in columns):
            return [np.column_stack(self._by_column(columns))]
        first = self.columns[0]
        matrix = array_of(columns, first.datatype, self._place_turned, first.missing, self._infinite)
        return [self._checked(np.ascontiguousarray(matrix.T))]

    def _by_column(self, columns: List[List[Any]]) -> List[Any]:
        arrays = []
        for column, values in zip(self.columns, columns):
            array = array_of(values, column.datatype, _place_in(column.name), column.missing, self._infinite)
            if array.ndim != 1:
                raise Problem(
                    422, "wrong_shape", f"Column {column.name!r} holds lists where single values are expected."
                )
            arrays.append(array)
        return arrays

    def _checked(self, matrix: Any) -> Any:
        if matrix.ndim != 2:
            raise Problem(
                422,
                "wrong_shape",
                f"The rows have {matrix.ndim} dimensions, {list(matrix.shape)}; the model takes a list of rows.",
                f"Send one list of {len(self.columns)} values for each row.",
            )
        if matrix.shape[1] != len(self.columns):
            raise self._wrong_width(matrix.shape[1])
        if not matrix.shape[0]:
            raise no_rows()
        return matrix

    def _wrong_width(self, got: int, row: int = 0) -> Problem:
        expected = len(self.columns)
        return Problem(
            422,
            "wrong_width",
            f"Row {row} has {got} values; the model takes {expected}.",
            f"Send {expected} values for each row"
            + (f", in this order: {_listing(self.names)}." if self.named else "."),
            expected=expected,
            got=got,
        )

    def _place_turned(self, index: Tuple[int, ...]) -> Tuple[str, Dict[str, Any]]:
        """Describe the place of a value in a transposed matrix. index: (column, row)."""
        return self._place(index[1::-1])

    def _place(self, index: Tuple[int, ...]) -> Tuple[str, Dict[str, Any]]:
        row, column = index[0], index[1] if len(index) > 1 else 0
        if column >= len(self.names):
            return f"Row {row}, value {column}", {"row": row}
        return _place_in(self.names[column])((row,))


class Texts:
    """Input of a model that reads one text per row."""

    known_names = texts = frozenset(("text",))

    def arrays(self, content: Content) -> List[Any]:
        """Return one (rows,) array of strings."""
        if isinstance(content, Named):
            if content.has_no_rows:
                raise no_rows()
            if len(content.values) != 1:
                raise wrong_columns(("text",), list(content.values))
            (values,) = content.values.values()
            content = Rows(values if isinstance(values, LISTED) else [values])
        texts = array_of(_cells(content.values), "BYTES", _place_in("text"), NEVER)
        if texts.ndim != 1:
            raise Problem(422, "wrong_width", "The model takes one text for each row.", 'Send {"input": ["…", "…"]}.')
        if not len(texts):
            raise no_rows()
        return [texts]


class Open:
    """Input of a model that does not declare what it takes: values are passed on unchanged.

    A list of values is one row. Named values become columns, from which the adapter makes a DataFrame.
    """

    known_names: FrozenSet[str] = frozenset()
    texts: FrozenSet[str] = frozenset()

    def arrays(self, content: Rows) -> List[Any]:
        values = content.values
        if isinstance(values, np.ndarray):
            return [array_of(values if values.ndim > 1 else values[np.newaxis], ANY, _place_open)]
        if not any(isinstance(row, list) for row in values):
            values = [values]
        return [array_of(values, ANY, _place_open)]


def wrong_columns(expected: Sequence[str], got: Sequence[str]) -> Problem:
    """Build the problem that lists missing and unknown names, and suggests which known names were probably meant."""
    missing = [name for name in expected if name not in got]
    unexpected = [name for name in got if name not in expected]
    meant = {name: difflib.get_close_matches(name, missing, 1) for name in unexpected[:MAX_NAMES_SHOWN]}
    detail = "".join(
        f" {word} {_listing(names)}." for word, names in (("Missing:", missing), ("Unexpected:", unexpected)) if names
    )
    guesses = [f"{matches[0]!r} instead of {name!r}" for name, matches in meant.items() if matches]
    return Problem(
        422,
        "wrong_columns",
        f"The names do not fit the model.{detail}",
        f"Did you mean {', '.join(guesses)}?" if guesses else f"The model takes {_listing(expected)}.",
        missing=missing,
        unexpected=unexpected,
    )


def _listing(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(map(shown, names[:MAX_NAMES_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _cells(values: List[Any]) -> List[Any]:
    """Flatten [[a], [b]] to [a, b]: a column given as a tensor of shape (rows, 1)."""
    if isinstance(values, np.ndarray):
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values and all(isinstance(value, list) and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values


def _place_in(name: str) -> Place:
    return lambda index: (f"Row {index[0]}, column {name!r}", {"row": index[0], "column": name})


def _place_open(index: Tuple[int, ...]) -> Tuple[str, Dict[str, Any]]:
    column = ", ".join(map(str, index[1:]))
    return f"Row {index[0]}, value {column}", {"row": index[0]}
