"""Python mode: a folder with a `model.py`, whose class loads the model and predicts.

    class Model:
        inputs = {"age": "FP64", "city": "BYTES"}      # optional: its inputs, checked before it is called
        outputs = {"risk": "FP64"}                     # optional
        sample = {"age": 41, "city": "Oslo"}           # optional: a request that it answers
        batch = True                                   # optional: rows of several requests may share one call

        def load(self, folder): …                      # optional argument: the folder of the files beside model.py
        def preprocess(self, inputs): …                # optional
        def predict(self, inputs): …                   # returns one answer for each row
        def postprocess(self, outputs): …              # optional

`predict` and `postprocess` may yield: a client that requests a stream gets the items one by one, any other client gets
all of them in one list.

Without `inputs`, the methods get what was sent: a list of rows, or the object. With `inputs`, they get numpy arrays:
the array of a single input, or an object of arrays for several.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple, Union

import numpy as np

from model_container.adapters.base import AsSent, Inputs, Outputs, tensor
from model_container.adapters.files import file_ports
from model_container.adapters.guessed_samples import guessed_samples
from model_container.adapters.pickle import load_code
from model_container.adapters.ports import Ports
from model_container.bodies.content import Content, Rows
from model_container.bodies.numeric_fast_path import PlainRows
from model_container.bodies.table import Table
from model_container.bodies.values import ANY, DATETIME, DTYPES
from model_container.contract.config import PredictContract, RuntimeConfig

PREDICTIONS = "predictions"
MODULE = "model"
_OBJECT = "object"


def load_python(config: RuntimeConfig) -> Union[FreePython, TypedPython]:
    """Load the owner's model. Raises what its code raises, and TypeError if it has no class that predicts."""
    folder = Path(config.artifact)
    sys.path.insert(0, str(folder))
    load_code(config.code)
    model = _made(_class_in(_imported(folder / f"{MODULE}.py")))
    _load(model, folder)
    described = _described(model, config.call)
    return TypedPython(model, described) if described.inputs else FreePython(model, described)


class _Python:
    """Base of both Python adapters: the owner's object and its steps, in order."""

    plain: Optional[PlainRows] = None
    has_probabilities = False

    def __init__(self, model: Any, call: PredictContract) -> None:
        self._steps = [step for name in ("preprocess", "predict", "postprocess") if (step := _step(model, name))]
        self._outputs = call.outputs
        self._own_sample = getattr(model, "sample", None)
        self.joinable = bool(call.batchable)
        self.classes: List[Any] = []

    def plain_inputs(self, matrix: Any) -> Inputs:
        raise NotImplementedError("it does not take plain rows")

    def begin(self, inputs: Inputs) -> Union[Iterator[Any], Outputs]:
        """Run the steps, passing items on one by one where possible.

        A `postprocess` that yields consumes the items of a `predict` that yields as they come. Any other step waits for
        all items.
        """
        value, rows = self._given(inputs)
        for step in self._steps:
            if isinstance(value, Iterator) and not inspect.isgeneratorfunction(step):
                value = list(value)
            value = step(value)
        return value if isinstance(value, Iterator) else self._answered(value, rows)

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        value, rows = self._given(inputs)
        for step in self._steps:
            made = step(value)
            value = list(made) if isinstance(made, Iterator) else made
        if isinstance(made, Iterator) and not self.joinable:
            rows = None  # yielded items belong to the request as a whole
        return self._answered(value, rows)

    def _given(self, inputs: Inputs) -> Tuple[Any, Optional[int]]:
        """Return the argument of the first step, and its number of rows; None if they are not counted."""
        raise NotImplementedError

    def _signature_outputs(self) -> List[Dict[str, Any]]:
        return [tensor(port["name"], port["datatype"], list(port["shape"])) for port in self._outputs] or [
            tensor(PREDICTIONS, ANY, [-1])
        ]

    def _answered(self, result: Any, rows: Optional[int]) -> Outputs:
        """Convert a result to outputs. rows: None if the request's rows are not counted."""
        datatypes = {port["name"]: port["datatype"] for port in self._outputs}
        if isinstance(result, dict) and result:
            columns = {str(name): _listed(value) for name, value in result.items()}
            lengths = {_length(value) for value in columns.values()}
            # If requests may be joined, columns of another length are an error, not one answer.
            if rows is not None and (lengths == {rows} or (self.joinable and None not in lengths)):
                return Outputs({name: _typed(value, datatypes.get(name, ANY)) for name, value in columns.items()}, True)
            if self.joinable and rows is not None:
                return Outputs({PREDICTIONS: [result]})
            return Outputs({PREDICTIONS: result}, by_row=False)
        value = _listed(result)
        if isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim):
            name, datatype = next(iter(datatypes.items()), (PREDICTIONS, ANY))
            return Outputs({name: _typed(value, datatype)}, counted=rows is not None)
        if rows in (None, 1):
            return Outputs({PREDICTIONS: [result]}, counted=False)
        return Outputs({PREDICTIONS: [result]})  # one answer for several rows: the batcher reports it


class FreePython(_Python, AsSent):
    """Adapter that passes requests on as they were sent."""

    names: FrozenSet[str] = frozenset()

    def inputs(self, content: Content) -> Inputs:
        if isinstance(content, Rows):
            kinds = {_kind(row) for row in content.values}
            return Inputs([_objects(content.values)], min(kinds), alone=len(kinds) > 1)
        return Inputs([_objects([content.values])], (_OBJECT,), alone=True)

    def _given(self, inputs: Inputs) -> Tuple[Any, Optional[int]]:
        rows = inputs.arrays[0].tolist()
        return (rows[0], None) if inputs.names == (_OBJECT,) else (rows, len(rows))

    def signature(self) -> Dict[str, Any]:
        return {
            "kind": "tensors",
            "inputs": [tensor("input", ANY, [-1])],
            "outputs": self._signature_outputs(),
            "named": False,
            "methods": ["predict"],
            "classes": [],
        }

    def samples(self) -> List[Any]:
        return guessed_samples(self._steps[0]) if self._own_sample is None else [self._own_sample]


class TypedPython(_Python):
    """Adapter that passes the declared inputs on, checked, as numpy arrays."""

    def __init__(self, model: Any, call: PredictContract) -> None:
        super().__init__(model, call)
        self._ports = Ports(call.inputs)
        self.names: FrozenSet[str] = self._ports.names
        self.texts = self._ports.texts
        self.joinable = self.joinable and self._ports.have_rows

    @property
    def table(self) -> Optional[Table]:
        return self._ports.table

    def inputs(self, content: Content) -> Inputs:
        return Inputs(self._ports.arrays(content))

    def _given(self, inputs: Inputs) -> Tuple[Any, Optional[int]]:
        arrays = self._ports.by_name(inputs.arrays)
        value = next(iter(arrays.values())) if len(arrays) == 1 else arrays
        return value, inputs.rows if self._ports.have_rows else None

    def signature(self) -> Dict[str, Any]:
        return {
            "kind": "table" if self._ports.is_table else "tensors",
            "inputs": self._ports.described(),
            "outputs": self._signature_outputs(),
            "named": self._ports.is_table,
            "methods": ["predict"],
            "classes": [],
        }

    def samples(self) -> List[Any]:
        return self._ports.samples() if self._own_sample is None else [self._own_sample]


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None
    assert spec.loader is not None  # a path that ends with .py always has a spec and a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    main = sys.modules["__main__"]
    for name, value in vars(module).items():  # unpickling looks there for what was defined in a notebook
        if not name.startswith("_"):
            setattr(main, name, value)
    return module


def _class_in(module: Any) -> Any:
    own = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == MODULE]
    answering = {value for value in own if callable(getattr(value, "predict", None))}
    chosen = [cls for cls in answering if cls.__name__ == "Model"]
    chosen = chosen or [cls for cls in answering if callable(getattr(cls, "load", None))] or list(answering)
    if len(chosen) != 1:
        names = ", ".join(sorted(cls.__name__ for cls in chosen)) or "none"
        raise TypeError(f"model.py needs one class with load and predict, or one named Model; found: {names}")
    return chosen[0]


def _made(owned: Any) -> Any:
    try:
        return owned()
    except TypeError as error:
        raise TypeError(f"{owned.__name__}() cannot be called without arguments: {error}") from error


def _load(model: Any, folder: Path) -> None:
    load = getattr(model, "load", None)
    if load is None:
        return
    if _takes_an_argument(load):
        load(str(folder))
    else:
        load()


def _takes_an_argument(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind("folder")
    except TypeError:
        return False
    return True


def _step(model: Any, name: str) -> Any:
    step = getattr(model, name, None)
    if step is None:
        return None
    if not callable(step):
        raise TypeError(f"{name} of {type(model).__name__} is not a method")
    if inspect.iscoroutinefunction(step) or inspect.isasyncgenfunction(step):
        raise TypeError(f"{name} of {type(model).__name__} is async; write it with a plain def")
    return step


def _described(model: Any, call: PredictContract) -> PredictContract:
    """Return the class's own declaration, overridden by model_config.yaml."""
    batch = getattr(model, "batch", None)
    return PredictContract(
        batchable=(batch if isinstance(batch, bool) else False) if call.batchable is None else call.batchable,
        inputs=call.inputs or _ports_of(model, "inputs") or file_ports(call),
        outputs=call.outputs or _ports_of(model, "outputs"),
    )


def _ports_of(model: Any, attribute: str) -> List[Dict[str, Any]]:
    """Read a declaration: `{"age": "FP64"}` or `[{"name": "age", "datatype": "FP64", "shape": [-1]}]`.

    Raises TypeError.
    """
    entries = getattr(model, attribute, None) or []
    if isinstance(entries, dict):
        entries = [{"name": name, "datatype": datatype} for name, datatype in entries.items()]
    if not isinstance(entries, (list, tuple)) or not all(
        isinstance(entry, dict) and entry.get("name") for entry in entries
    ):
        raise TypeError(f"{attribute} of {type(model).__name__} is neither names with datatypes nor a list of tensors")
    ports = [{"name": str(entry["name"]), "datatype": ANY, "shape": [-1], **entry} for entry in entries]
    for port in ports:
        if port["datatype"] not in (*DTYPES, DATETIME, ANY):
            known = ", ".join((*DTYPES, DATETIME, ANY))
            raise TypeError(f"{attribute} gives {port['name']!r} the datatype {port['datatype']!r}; known are {known}")
    return ports


def _kind(row: Any) -> Tuple[str, ...]:
    """Return the kind of a row: only rows of one kind are joined."""
    if isinstance(row, dict):
        return ("names", *sorted(map(str, row)))
    if isinstance(row, list):
        return ("values", str(len(row)))
    return ("value", type(row).__name__)


def _objects(values: List[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):  # np.array() would turn nested lists into dimensions
        array[index] = value
    return array


def _listed(value: Any) -> Any:
    """Convert to an array or a list where possible; other values are returned unchanged."""
    if isinstance(value, (np.ndarray, str, bytes, dict)):
        return value
    if isinstance(value, (list, tuple)):
        return list(value)
    if hasattr(value, "detach"):  # a PyTorch tensor
        value = value.detach().cpu()
    for method in ("to_numpy", "numpy"):
        if callable(getattr(value, method, None)):
            return np.asarray(getattr(value, method)())
    return value


def _length(value: Any) -> Optional[int]:
    if isinstance(value, np.ndarray):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, list) else None


def _typed(value: Any, datatype: str) -> Any:
    """Convert to an array of the declared datatype; BYTES, DATETIME and ANY are left unchanged."""
    return value if datatype in (ANY, DATETIME, "BYTES") else np.asarray(value, DTYPES[datatype])
