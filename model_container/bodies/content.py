"""What a request holds, whatever the dialect in which it came."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from model_container.bodies.problems import Problem
from model_container.contract.frames import FORM_NATIVE


class Rows(NamedTuple):
    """Values by position; one row or several, which the model's width tells. A list, or an array that came as bytes."""

    values: Any


class Named(NamedTuple):
    """Values by input name, each one value (a single row), or a list or an array with one item a row.

    shapes: of those that came as tensors. A value of no dimension is not in a list, one of no values is [].
    """

    values: Dict[str, Any]
    shapes: Mapping[str, Tuple[int, ...]] = MappingProxyType({})

    @property
    def has_no_rows(self) -> bool:
        return any(0 in shape for shape in self.shapes.values())


Content = Union[Rows, Named]


class Decoded(NamedTuple):
    """form: of the answer. id: to be repeated in it. outputs: the names asked for, None for all.

    binary: by output, whether it goes as bytes; all_binary: whether those go so of which it is not said.
    """

    content: Content
    form: int = FORM_NATIVE
    id: Optional[str] = None
    outputs: Optional[List[str]] = None
    binary: Mapping[str, bool] = MappingProxyType({})
    all_binary: bool = False


def no_rows() -> Problem:
    return Problem(422, "no_rows", "The request has no rows.", "Send at least one row.")
