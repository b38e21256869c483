"""Adapter for PyTorch: TorchScript, exported programs, whole modules, and state dicts with the code for their module.

A module's inputs are the tensors of its forward method. Shapes are read from the file. If the file has none, a few
likely shapes are tried at load, and the first that the module accepts becomes its sample.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

import numpy as np
import torch  # type: ignore[import-not-found]

from model_container.adapters.base import Inputs, Outputs, tensor
from model_container.adapters.files import file_ports
from model_container.adapters.pickle import load_code
from model_container.adapters.torch.code import compiled, made_by, with_weights
from model_container.adapters.torch.device import device, execution_of, moved
from model_container.adapters.torch.ports import (
    DATATYPES,
    DTYPES,
    Port,
    array_for,
    exported_ports,
    forward_ports,
    script_ports,
)
from model_container.bodies.content import Content, Rows
from model_container.bodies.numeric_fast_path import PlainRows
from model_container.bodies.table import wrong_columns
from model_container.contract.config import PredictContract, RuntimeConfig

PREDICTIONS = "predictions"
IMAGE_RANK = 4
IMAGE_SIDES = (28, 32, 64, 224, 8, 16, 48, 96, 128, 256, 299, 384)

_NUMPY = {"BOOL": np.bool_, "INT64": np.int64, "INT32": np.int32, "FP64": np.float64}
_NUMPY = {name: _NUMPY.get(name, np.float32) for name in DTYPES}


def load_torchscript(config: RuntimeConfig) -> TorchAdapter:
    _prepare(config)
    module = torch.jit.load(config.artifact, map_location=device()).eval()
    traced = dict(module._c._retrieve_traced_inputs().items())
    examples = traced.get("forward")
    return TorchAdapter(module, script_ports(module, examples), _arrays(examples), config)


def load_exported(config: RuntimeConfig) -> TorchAdapter:
    _prepare(config)
    program = torch.export.load(config.artifact)
    ports = exported_ports(program)
    examples = program.example_inputs[0] if program.example_inputs else None
    return TorchAdapter(moved(program).module().to(device()), ports, _arrays(examples), config)


def load_module(config: RuntimeConfig) -> TorchAdapter:
    """Load a whole module, or weights for the module that the owner's code creates."""
    _prepare(config)
    modules = load_code(config.code)
    held = torch.load(config.artifact, map_location=device(), weights_only=False)
    if isinstance(held, torch.nn.Module):
        module = held
    elif isinstance(held, dict):
        module = with_weights(made_by(modules), held)
    else:
        raise TypeError(f"the file holds a {type(held).__name__}, neither a module nor a state dict")
    module = module.to(device()).eval()
    ports = forward_ports(module)
    return TorchAdapter(compiled(module), ports, None, config)


def _prepare(config: RuntimeConfig) -> None:
    torch.set_num_threads(config.threads)
    torch.set_grad_enabled(False)


class TorchAdapter:
    """Adapter for one module. example: arrays that the module was traced with, None if the file has none."""

    plain: Optional[PlainRows] = None
    has_probabilities = False

    def __init__(self, module: Any, ports: Sequence[Port], example: Optional[List[Any]], config: RuntimeConfig) -> None:
        if not ports:
            raise TypeError("its forward takes no tensor")
        self._module = module
        self._device = device()
        self._ports = list(ports)
        self.names: FrozenSet[str] = frozenset(port.name for port in ports)
        self.classes: List[Any] = []
        self._outputs: List[Dict[str, Any]] = [tensor(PREDICTIONS, "FP32", [-1])]
        self.joinable = False
        self._example = self._find_example(example, config.call)
        if self._example is not None:
            self._learn(self._example)
        self._execution = execution_of(config, self.joinable)

    def _find_example(self, given: Optional[List[Any]], call: PredictContract) -> Optional[List[Any]]:
        """Return arrays that the module accepts; None if none are found. What its owner declares is tried before guesses."""
        declared = [tuple(max(1, size) for size in port["shape"]) for port in file_ports(call)]
        for arrays in ([given] if given else []) + _guesses(self._module, self._ports, declared):
            try:
                self._call(arrays)
            except ValueError:
                continue
            return arrays
        return None

    def _learn(self, example: List[Any]) -> None:
        """Learn the shapes of the outputs, and whether requests may be joined.

        They may be joined if two rows in one call give the same answers as each row alone.
        """
        row = [array[:1] for array in example]
        other = [
            array * array.dtype.type(2) + array.dtype.type(1) if array.dtype.kind == "f" else array for array in row
        ]
        try:
            alone, apart = self._call(row), self._call(other)
            both = self._call([np.concatenate(pair) for pair in zip(row, other)])
        except ValueError:
            values = self._call(example)
        else:
            values = alone
            self.joinable = all(
                len(both[name]) == 2 and _equal(both[name], np.concatenate([alone[name], apart[name]])) for name in both
            )
        self._outputs = [
            tensor(name, DATATYPES[torch.from_numpy(value).dtype], [-1, *value.shape[1:]] if value.ndim else [1])
            for name, value in values.items()
        ]
        if self.joinable:
            shapes = self._found_shape([array.shape for array in row])
            self._ports = [
                port._replace(shape=(None, *(shape if port.shape is None else port.shape)[1:]))
                for port, shape in zip(self._ports, shapes)
            ]

    def _found_shape(self, shapes: List[Tuple[int, ...]]) -> List[Tuple[Optional[int], ...]]:
        """Return the shapes of an example, with None for each dimension that may also be one larger.

        Of an image it may also be twice as large: pooling and strides pass over one more row of pixels.
        """
        rank = max(map(len, shapes))
        free = {
            place
            for place in range(1, rank)
            if self._takes(shapes, place, 1, 1) and (rank != IMAGE_RANK or self._takes(shapes, place, 2, 0))
        }
        return [tuple(None if place in free else size for place, size in enumerate(shape)) for shape in shapes]

    def _takes(self, shapes: List[Tuple[int, ...]], place: int, factor: int, more: int) -> bool:
        """Return whether the module takes an example with another size in one dimension."""
        others = [
            tuple(factor * size + more if index == place else size for index, size in enumerate(shape))
            for shape in shapes
        ]
        try:
            self._call([np.ones(size, _NUMPY[port.datatype]) for size, port in zip(others, self._ports)])
        except ValueError:
            return False
        return True

    def plain_inputs(self, matrix: Any) -> Inputs:
        raise NotImplementedError("it does not take plain rows")

    def inputs(self, content: Content) -> Inputs:
        if isinstance(content, Rows):
            if len(self._ports) > 1:
                raise wrong_columns([port.name for port in self._ports], [])
            values = {self._ports[0].name: content.values}
        else:
            values = content.values
        if values.keys() != self.names:
            raise wrong_columns([port.name for port in self._ports], list(values))
        return Inputs([array_for(port, values[port.name]) for port in self._ports])

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        values = self._call(inputs.arrays)
        # Joined requests are split by rows, so a wrong number of rows is an error there.
        by_row = self.joinable or all(value.ndim and len(value) == inputs.rows for value in values.values())
        return Outputs(values, named=len(values) > 1, by_row=by_row)

    def _call(self, arrays: Sequence[Any]) -> Dict[str, Any]:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        tensors = [value.to(self._device, DTYPES[port.datatype]) for value, port in zip(tensors, self._ports)]
        try:
            return _named(self._module(*tensors))
        except (RuntimeError, AssertionError, IndexError) as error:
            # A wrong shape raises RuntimeError here; the last line of TorchScript's message explains it.
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ValueError(lines[-1].replace("RuntimeError: ", "")) from error

    def signature(self) -> Dict[str, Any]:
        return {
            "kind": "tensors",
            "inputs": [tensor(port.name, port.datatype, port.sizes()) for port in self._ports],
            "outputs": self._outputs,
            "named": False,
            "methods": ["predict"],
            "classes": [],
        }

    def execution(self) -> Dict[str, Any]:
        return self._execution

    def samples(self) -> List[Any]:
        if self._example is None:
            return [{"inputs": {port.name: [0] for port in self._ports}}]
        return [{"inputs": {port.name: array[:1].tolist() for port, array in zip(self._ports, self._example)}}]


def _named(output: Any) -> Dict[str, Any]:
    """Return numpy arrays by name: the keys of a dict, or the positions in a tuple."""
    if isinstance(output, torch.Tensor):
        return {PREDICTIONS: _numpy(output)}
    if isinstance(output, dict):
        return {str(name): _numpy(value) for name, value in output.items()}
    if hasattr(output, "_asdict"):
        return {name: _numpy(value) for name, value in output._asdict().items()}
    if isinstance(output, (list, tuple)):
        return {f"output_{index}": _numpy(value) for index, value in enumerate(output)}
    return {PREDICTIONS: np.asarray(output)}


def _numpy(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().to("cpu")
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy()


def _guesses(module: Any, ports: Sequence[Port], declared: List[Tuple[int, ...]]) -> List[List[Any]]:
    """Return arrays of ones in likely shapes: those declared, the first weight's width, an image with its channels,
    plain numbers.
    """
    shapes: List[Tuple[int, ...]] = []
    for weight in module.parameters():
        if weight.ndim == 2:
            shapes += [(1, weight.shape[1]), (1, 1, weight.shape[1])]
        elif weight.ndim == 3:
            shapes.append((1, weight.shape[1], 16))
        elif weight.ndim == 4:
            shapes += [(1, weight.shape[1], side, side) for side in IMAGE_SIDES]
        if shapes:
            break
    shapes = declared + shapes + [(1, 1), (1,), (1, 8)]
    return [[np.ones(_sized(port, shape), _NUMPY[port.datatype]) for port in ports] for shape in shapes]


def _sized(port: Port, guess: Tuple[int, ...]) -> Tuple[int, ...]:
    return guess if port.shape is None else tuple(1 if size is None else size for size in port.shape)


def _arrays(tensors: Any) -> Optional[List[Any]]:
    if tensors is None or not all(isinstance(value, torch.Tensor) for value in tensors):
        return None
    return [_numpy(value) for value in tensors]


def _equal(first: Any, second: Any) -> bool:
    return first.shape == second.shape and np.allclose(first, second, rtol=1e-4, atol=1e-5, equal_nan=True)
