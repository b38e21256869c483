"""PyTorch modules: TorchScript, exported programs, whole modules, and state dicts with the code that makes the module.

A module's inputs are its forward's tensors. What a file says of their shapes is taken; where it says nothing, a few
likely shapes are tried at load, and the first that the module answers is its sample.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch  # type: ignore[import-not-found]

from model_container.adapters.base import Inputs, Outputs, tensor
from model_container.adapters.pickle import load_code
from model_container.adapters.torch_device import device, execution_of, moved
from model_container.config import RuntimeConfig
from model_container.content import Content, Rows
from model_container.plain import PlainRows
from model_container.problems import Problem
from model_container.table import LISTED, wrong_columns
from model_container.values import Place, array_of

PREDICTIONS = "predictions"
IMAGE_SIDES = (28, 32, 64)
FACTORIES = ("build_model", "make_model", "create_model", "model")

_DATATYPES = {
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.float32: "FP32",
    torch.float64: "FP64",
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
}
_DTYPES = {name: dtype for dtype, name in _DATATYPES.items()}


class Port(NamedTuple):
    """One tensor that forward takes. shape: None is any size; None in place of the whole is any shape."""

    name: str
    datatype: str
    shape: Optional[Tuple[Optional[int], ...]] = None

    def sizes(self) -> List[int]:
        return [-1] if self.shape is None else [-1 if size is None else size for size in self.shape]


def load_torchscript(config: RuntimeConfig) -> TorchAdapter:
    _prepare(config)
    module = torch.jit.load(config.artifact, map_location=device()).eval()
    traced = dict(module._c._retrieve_traced_inputs().items())
    examples = traced.get("forward")
    return TorchAdapter(module, _script_ports(module, examples), _arrays(examples), config)


def load_exported(config: RuntimeConfig) -> TorchAdapter:
    _prepare(config)
    program = torch.export.load(config.artifact)
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [(name, nodes[name].meta["val"]) for name in program.graph_signature.user_inputs]
    ports = [Port(name, _DATATYPES.get(value.dtype, "FP32"), _shape(value.shape)) for name, value in values]
    examples = program.example_inputs[0] if program.example_inputs else None
    return TorchAdapter(moved(program).module().to(device()), ports, _arrays(examples), config)


def load_module(config: RuntimeConfig) -> TorchAdapter:
    """A whole module, or weights for the one that the owner's code makes."""
    _prepare(config)
    load_code(config.code)
    held = torch.load(config.artifact, map_location=device(), weights_only=False)
    if isinstance(held, torch.nn.Module):
        module = held
    elif isinstance(held, dict):
        module = _with_weights(_made_by(config.code), held)
    else:
        raise TypeError(f"the file holds a {type(held).__name__}, neither a module nor a state dict")
    module = module.to(device()).eval()
    ports = _forward_ports(module)
    return TorchAdapter(_compiled(module), ports, None, config)


def _prepare(config: RuntimeConfig) -> None:
    torch.set_num_threads(config.threads)
    torch.set_grad_enabled(False)


class TorchAdapter:
    """One module. example: arrays that it was traced with, None if the file has none."""

    plain: Optional[PlainRows] = None
    has_probabilities = False

    def __init__(self, module: Any, ports: Sequence[Port], example: Optional[List[Any]], config: RuntimeConfig) -> None:
        if not ports:
            raise TypeError("its forward takes no tensor")
        self._module = module
        self._device = device()
        self._ports = list(ports)
        self.names: FrozenSet[str] = frozenset(one.name for one in ports)
        self.classes: List[Any] = []
        self._outputs: List[Dict[str, Any]] = [tensor(PREDICTIONS, "FP32", [-1])]
        self.joinable = False
        self._example = self._find_example(example)
        if self._example is not None:
            self._learn(self._example)
        self._execution = execution_of(config, self.joinable)

    def _find_example(self, given: Optional[List[Any]]) -> Optional[List[Any]]:
        """Arrays that it answers."""
        for arrays in ([given] if given else []) + _guesses(self._module, self._ports):
            try:
                self._call(arrays)
            except ValueError:
                continue
            return arrays
        return None

    def _learn(self, example: List[Any]) -> None:
        """The shapes of its outputs, and whether rows may be joined: if two in one call are answered as each alone."""
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
            tensor(name, _DATATYPES[torch.from_numpy(value).dtype], [-1, *value.shape[1:]] if value.ndim else [1])
            for name, value in values.items()
        ]
        if self.joinable:
            found = self._found_shape([array.shape for array in row])
            self._ports = [
                one._replace(shape=(None, *(shape if one.shape is None else one.shape)[1:]))
                for one, shape in zip(self._ports, found)
            ]

    def _found_shape(self, shapes: List[Tuple[int, ...]]) -> List[Tuple[Optional[int], ...]]:
        """Those of an example, with None for each dimension that may as well be one larger."""
        free = set()
        for place in range(1, max(map(len, shapes))):
            larger = [tuple(size + (index == place) for index, size in enumerate(shape)) for shape in shapes]
            try:
                self._call([np.ones(size, _NUMPY[one.datatype]) for size, one in zip(larger, self._ports)])
            except ValueError:
                continue
            free.add(place)
        return [tuple(None if place in free else size for place, size in enumerate(shape)) for shape in shapes]

    def plain_inputs(self, matrix: Any) -> Inputs:
        raise NotImplementedError("it reads no plain rows")

    def inputs(self, content: Content) -> Inputs:
        if isinstance(content, Rows):
            if len(self._ports) > 1:
                raise wrong_columns([one.name for one in self._ports], [])
            values = {self._ports[0].name: content.values}
        else:
            values = content.values
        if values.keys() != self.names:
            raise wrong_columns([one.name for one in self._ports], list(values))
        return Inputs([_array(one, values[one.name]) for one in self._ports])

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        values = self._call(inputs.arrays)
        # What is joined is told apart by its rows, so there a wrong number of them is an error.
        by_row = self.joinable or all(value.ndim and len(value) == inputs.rows for value in values.values())
        return Outputs(values, named=len(values) > 1, by_row=by_row)

    def _call(self, arrays: Sequence[Any]) -> Dict[str, Any]:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        tensors = [one.to(self._device, _DTYPES[port.datatype]) for one, port in zip(tensors, self._ports)]
        try:
            return _named(self._module(*tensors))
        except (RuntimeError, AssertionError, IndexError) as error:
            # A shape that does not fit is a RuntimeError here, told in the last line of what TorchScript writes.
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ValueError(lines[-1].replace("RuntimeError: ", "")) from error

    def signature(self) -> Dict[str, Any]:
        return {
            "kind": "tensors",
            "inputs": [tensor(one.name, one.datatype, one.sizes()) for one in self._ports],
            "outputs": self._outputs,
            "named": False,
            "methods": ["predict"],
            "classes": [],
        }

    def execution(self) -> Dict[str, Any]:
        return self._execution

    def samples(self) -> List[Any]:
        if self._example is None:
            return [{"inputs": {one.name: [0] for one in self._ports}}]
        return [{"inputs": {one.name: array[:1].tolist() for one, array in zip(self._ports, self._example)}}]


def _named(output: Any) -> Dict[str, Any]:
    """numpy arrays by name: the keys of a dict, the numbers of a tuple."""
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


def _array(port: Port, value: Any) -> Any:
    """A single row may come without its first dimension where the shape is known."""
    nested = value if isinstance(value, LISTED) else [value]
    datatype = "FP32" if port.datatype in ("BF16", "FP16") else port.datatype
    array = array_of(nested, datatype, _place(port.name), None)
    if port.shape is None:
        return array
    if array.ndim == len(port.shape) - 1:
        array = array[np.newaxis]
    if array.ndim != len(port.shape) or any(want not in (None, got) for want, got in zip(port.shape, array.shape)):
        raise Problem(
            422,
            "wrong_shape",
            f"Input {port.name!r} has the shape {list(array.shape)}; the model takes {port.sizes()}.",
            "-1 stands for any number; nest the lists accordingly.",
            expected=port.sizes(),
            got=list(array.shape),
        )
    return array


def _place(name: str) -> Place:
    return lambda index: (
        f"Input {name!r}, row {index[0]}" + (f", position {list(index[1:])}" if index[1:] else ""),
        {"input": name, "row": index[0], "position": list(index[1:])},
    )


def _script_ports(module: Any, examples: Any) -> List[Port]:
    """forward's arguments but for self. Raises TypeError for one that is no tensor and has no default."""
    ports = []
    for index, one in enumerate(module.forward.schema.arguments[1:]):
        if str(one.type) not in ("Tensor", "Optional[Tensor]"):
            if one.has_default_value():
                continue
            raise TypeError(f"forward's argument {one.name!r} is a {one.type}; a request fills tensors only")
        if one.has_default_value():
            continue
        example = examples[index] if examples is not None and index < len(examples) else None
        if isinstance(example, torch.Tensor):
            shape = (None, *example.shape[1:]) if example.ndim else ()
            ports.append(Port(one.name, _DATATYPES.get(example.dtype, "FP32"), shape))
        else:
            ports.append(Port(one.name, _first_datatype(module)))
    return ports


def _forward_ports(module: Any) -> List[Port]:
    given = inspect.signature(module.forward).parameters.values()
    needed = [one for one in given if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    return [Port(one.name, _first_datatype(module)) for one in needed]


def _first_datatype(module: Any) -> str:
    """An embedding looks numbers up; all else computes in the type of its weights."""
    for part in module.modules():
        if (getattr(part, "original_name", "") or type(part).__name__) in ("Embedding", "EmbeddingBag"):
            return "INT64"
        for weight in part.parameters(recurse=False):
            return _DATATYPES.get(weight.dtype, "FP32")
    return "FP32"


def _guesses(module: Any, ports: Sequence[Port]) -> List[List[Any]]:
    """Arrays of ones in likely shapes: of the first weight's width, an image of its channels, plain numbers."""
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
    shapes += [(1, 1), (1,), (1, 8)]
    return [[np.ones(_sized(port, shape), _NUMPY[port.datatype]) for port in ports] for shape in shapes]


_NUMPY = {"BOOL": np.bool_, "INT64": np.int64, "INT32": np.int32, "FP64": np.float64}
_NUMPY = {name: _NUMPY.get(name, np.float32) for name in _DTYPES}


def _sized(port: Port, guess: Tuple[int, ...]) -> Tuple[int, ...]:
    return guess if port.shape is None else tuple(1 if size is None else size for size in port.shape)


def _shape(sizes: Sequence[Any]) -> Tuple[Optional[int], ...]:
    """A dimension that was exported as dynamic is no plain number."""
    return tuple(size if type(size) is int else None for size in sizes)


def _arrays(tensors: Any) -> Optional[List[Any]]:
    if tensors is None or not all(isinstance(one, torch.Tensor) for one in tensors):
        return None
    return [_numpy(one) for one in tensors]


def _equal(one: Any, other: Any) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


def _compiled(module: Any) -> Any:
    """In TorchScript if its code is of the kind that can be; as it is, else."""
    try:
        return torch.jit.script(module)
    except Exception as error:
        print(f"prism: the module stays in Python: {type(error).__name__}", file=sys.stderr, flush=True)
        return module


def _with_weights(module: Any, held: Dict[str, Any]) -> Any:
    """held: a state dict, or a checkpoint that has one under a usual key."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held.get(key), dict):
            held = held[key]
            break
    module.load_state_dict(held)
    return module


def _made_by(folder: str) -> Any:
    """The module of the owner's code: what a function like `build_model` gives, or its one class without arguments."""
    files = sorted(Path(folder).glob("*.py")) if folder else []
    defined = {name: value for path in files for name, value in vars(sys.modules[path.stem]).items()}
    for name in FACTORIES:
        if callable(defined.get(name)) and not isinstance(defined[name], type):
            return _made(defined[name], name)
    known = {path.stem for path in files}
    classes = {
        value
        for value in defined.values()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ in known
    }
    chosen = [one for one in classes if one.__name__ in ("Model", "Net")] or list(classes)
    if len(chosen) != 1:
        found = ", ".join(sorted(one.__name__ for one in classes)) or "none"
        raise TypeError(
            f"the file holds weights only, and it is not clear which module they are for (classes found: {found}); "
            "define a function build_model() in model.py that returns it"
        )
    return _made(chosen[0], chosen[0].__name__)


def _made(factory: Callable[[], Any], name: str) -> Any:
    try:
        return factory()
    except TypeError as error:
        raise TypeError(f"{name}() cannot be called without arguments: {error}") from error
