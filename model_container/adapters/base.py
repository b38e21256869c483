"""Interface of the adapters: content to arrays, arrays to outputs, and facts about the model."""

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
from model_container.bodies.table import Table

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
    "statsmodels",
    "onnxruntime",
    "torch",
)


class Inputs(NamedTuple):
    """Arrays of one request, or of several joined requests; the first dimension is the rows.

    names: of the arrays, if requests may give different inputs. alone: never joined with another request.
    """

    arrays: List[Any]
    names: Tuple[str, ...] = ()
    alone: bool = False

    @property
    def rows(self) -> int:
        return len(self.arrays[0]) if self.arrays else 1

    @property
    def structure(self) -> Tuple[Any, ...]:
        """Return the key for joining: only requests of equal structure are joined."""
        if self.alone:
            return (object(),)
        return (self.names, *((array.dtype.str, array.shape[1:]) for array in self.arrays))


class Outputs(NamedTuple):
    """Outputs of one call. values: array or list by output name, one item per row.

    named: rows are shown as objects with these names. probabilities: one (rows, classes) array for each predicted
    column, None unless requested. by_row: False if the values belong to the request as a whole; only a model that is
    not joinable may return such values, which may also be maps. datatypes: by name, for outputs whose arrays do not
    show their datatype. counted: False if the request's number of rows is unknown, so that any number of predictions is
    accepted.
    """

    values: Dict[str, Any]
    named: bool = False
    probabilities: Optional[List[Any]] = None
    by_row: bool = True
    datatypes: Mapping[str, str] = MappingProxyType({})
    counted: bool = True


class Adapter(Protocol):
    """Interface to one loaded model.

    joinable: whether rows of several requests may share one call. names: of the model's inputs, for the dialects.
    classes: labels of a classifier; a list for each predicted column if there are several.
    plain: reader for bodies that are only rows of numbers; None if the model takes anything else.
    """

    joinable: bool
    names: FrozenSet[str]
    has_probabilities: bool
    classes: List[Any]
    plain: Optional[PlainRows]

    def plain_inputs(self, matrix: Any) -> Inputs:
        """Wrap a matrix that `plain` produced."""
        ...

    def inputs(self, content: Content) -> Inputs:
        """Convert a request's content to arrays. Raises Problem naming what does not fit the model."""
        ...

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        """Predict. Raises ValueError, TypeError, KeyError or IndexError for input that the model refuses."""
        ...

    def signature(self) -> Dict[str, Any]:
        """Return the signature as plain JSON in the shape of app.core.signature.Signature."""
        ...

    def samples(self) -> List[Any]:
        """Return request bodies that the model can probably answer, best first."""
        ...


class AsSent:
    """Base of an adapter whose model takes requests as they were sent; see free_form.py."""


@runtime_checkable
class Yielding(Protocol):
    """Adapter whose model may return its answer item by item."""

    def begin(self, inputs: Inputs) -> Union[Iterator[Any], Outputs]:
        """Return an iterator if the model yields its items on demand, otherwise all outputs at once.

        Raises the same errors as `predict`, also during the iteration.
        """
        ...


@runtime_checkable
class ReadingTexts(Protocol):
    """Adapter that knows which of its inputs are texts, in which null is refused."""

    @property
    def texts(self) -> FrozenSet[str]: ...


@runtime_checkable
class TakingTables(Protocol):
    """Adapter whose model takes a table, None if this one does not: requests may name other columns than it has."""

    @property
    def table(self) -> Optional[Table]: ...


@runtime_checkable
class Placed(Protocol):
    """Adapter that decides which device its model computes on."""

    def execution(self) -> Dict[str, Any]:
        """Return the replica's execution facts, such as
        {"execution_providers": ["CPUExecutionProvider"], "threads": 2, "joins_requests": true}.
        """
        ...


def tensor(name: str, datatype: str, shape: List[int], choices: Optional[List[Any]] = None) -> Dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "choices": choices or []}


def libraries() -> Dict[str, str]:
    """Return the versions of the libraries that the model has imported, by distribution."""
    versions = ((name, getattr(sys.modules.get(name), "__version__", None)) for name in _LIBRARIES)
    return {_DISTRIBUTIONS.get(name, name): str(version) for name, version in versions if version}
