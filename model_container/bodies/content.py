"""Decoded content of a request, independent of its dialect."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from model_container.bodies.problems import Problem
from model_container.contract.frames import FORM_NATIVE


class Rows(NamedTuple):
    """Values by position: one row or several, which the model's width decides.

    A list, or an array decoded from bytes.
    """

    values: Any


class Named(NamedTuple):
    """Values by input name. Each is one value (a single row), or a list or an array with one item per row.

    shapes: of the values that came as tensors. A scalar tensor is not wrapped in a list; a tensor without values is [].
    """

    values: Dict[str, Any]
    shapes: Mapping[str, Tuple[int, ...]] = MappingProxyType({})

    @property
    def has_no_rows(self) -> bool:
        return any(0 in shape for shape in self.shapes.values())


Content = Union[Rows, Named]


class CsvTable(NamedTuple):
    """CSV body. names: of the columns. columns: the cells of each. lines: the rows as text, without line ends."""

    names: List[str]
    columns: List[List[str]]
    lines: List[str]
    delimiter: str


class Decoded(NamedTuple):
    """Decoded request. form: of the answer. id: repeated in the answer. outputs: the requested names, None for all.

    binary: for each output named there, whether it is sent as bytes. all_binary: the same for all other outputs.
    table: the rows beside which the results are written; None for an answer without them. has_errors: whether a column
    of errors follows the results.
    """

    content: Content
    form: int = FORM_NATIVE
    id: Optional[str] = None
    outputs: Optional[List[str]] = None
    binary: Mapping[str, bool] = MappingProxyType({})
    all_binary: bool = False
    table: Optional[CsvTable] = None
    has_errors: bool = False


def no_rows() -> Problem:
    return Problem(422, "no_rows", "The request has no rows.", "Send at least one row.")
