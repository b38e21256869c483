"""What every adapter offers: content to arrays, arrays to outputs, and what it knows of its model."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import (
    Any,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Tuple,
    Union,
    runtime_checkable,
)

from model_container.bodies.content import Content
from model_container.bodies.numeric_fast_path import PlainRows

PROBABILITIES = "probabilities"
"""Name of the output that a request for probabilities adds."""

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_LIBRARIES = (
    "numpy",
    "scipy",
    "pandas",
    "sklearn",
    "joblib",
    "xgboost",
    "lightgbm",
    "catboost",
    "onnxruntime",
    "torch",
)


class Inputs(NamedTuple):
    """One request, or several joined: arrays whose first dimension is the rows.

    names: of the arrays, where requests may differ in which they give. alone: never joined with another.
    """

    arrays: List[Any]
    names: Tuple[str, ...] = ()
    alone: bool = False

    @property
    def rows(self) -> int:
        return len(self.arrays[0]) if self.arrays else 1

    @property
    def structure(self) -> Tuple[Any, ...]:
        """Only requests of equal structure are joined."""
        if self.alone:
            return (object(),)
        return (self.names, *((array.dtype.str, array.shape[1:]) for array in self.arrays))


class Outputs(NamedTuple):
    """values: array or list by output name, one item a row. named: rows are shown as objects with these names.

    probabilities: one (rows, classes) array for each predicted column, None unless asked for.
    by_row: False where the values belong to the request as a whole; only a model that is not joinable may say so.
    Such values may also be maps. datatypes: of outputs whose arrays do not tell, by name. counted: False where the
    request did not say how many rows it has, so that any number of answers is right.
    """

    values: Dict[str, Any]
    named: bool = False
    probabilities: Optional[List[Any]] = None
    by_row: bool = True
    datatypes: Mapping[str, str] = MappingProxyType({})
    counted: bool = True


class Adapter(Protocol):
    """One loaded model.

    joinable: whether rows of several requests may go through one call. names: of its inputs, for the dialects.
    classes: labels of a classifier, a list for each predicted column if there are several.
    plain: reads bodies that are only rows of numbers, None if the model takes anything else.
    """

    joinable: bool
    names: FrozenSet[str]
    has_probabilities: bool
    classes: List[Any]
    plain: Optional[PlainRows]

    def plain_inputs(self, matrix: Any) -> Inputs:
        """matrix: as `plain` made it."""
        ...

    def inputs(self, content: Content) -> Inputs:
        """Raises Problem naming what does not fit the model."""
        ...

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        """Raises ValueError, TypeError, KeyError or IndexError for what the model refuses."""
        ...

    def signature(self) -> Dict[str, Any]:
        """Plain JSON in the shape of app.core.signature.Signature."""
        ...

    def samples(self) -> List[Any]:
        """Request bodies that the model may well answer, best first."""
        ...


class AsSent:
    """Base of an adapter whose model takes requests as they were sent; see free_form.py."""


@runtime_checkable
class Yielding(Protocol):
    """An adapter whose model may give its answer item by item."""

    def begin(self, inputs: Inputs) -> Union[Iterator[Any], Outputs]:
        """What the model makes as it is asked for, or all at once. Raises as `predict` does, also while it goes on."""
        ...


@runtime_checkable
class ReadingTexts(Protocol):
    """An adapter that knows which of its inputs are texts, in which null is refused."""

    @property
    def texts(self) -> FrozenSet[str]: ...


@runtime_checkable
class Placed(Protocol):
    """An adapter that decides on what its model computes."""

    def execution(self) -> Dict[str, Any]:
        """For the replica's facts: {"execution_providers": ["CPUExecutionProvider"], "threads": 2, "joins_requests": true}."""
        ...


def tensor(name: str, datatype: str, shape: List[int], choices: Optional[List[Any]] = None) -> Dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "choices": choices or []}


def libraries() -> Dict[str, str]:
    """Versions of what the model has imported, by distribution."""
    versions = ((name, getattr(sys.modules.get(name), "__version__", None)) for name in _LIBRARIES)
    return {_DISTRIBUTIONS.get(name, name): str(version) for name, version in versions if version}
