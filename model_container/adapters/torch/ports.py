"""Input tensors of a PyTorch module's forward method: read from the file or the code, and filled from a request."""

from __future__ import annotations

import inspect
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch  # type: ignore[import-not-found]

from model_container.bodies.problems import Problem
from model_container.bodies.table import LISTED
from model_container.bodies.values import Place, array_of

DATATYPES = {
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
DTYPES = {name: dtype for dtype, name in DATATYPES.items()}


class Port(NamedTuple):
    """Tensor that forward takes. shape: None as a size is any size; None as the whole shape is any shape."""

    name: str
    datatype: str
    shape: Optional[Tuple[Optional[int], ...]] = None

    def sizes(self) -> List[int]:
        return [-1] if self.shape is None else [-1 if size is None else size for size in self.shape]


def array_for(port: Port, value: Any) -> Any:
    """Convert a request's value. A single row may come without its first dimension if the shape is known.

    Raises Problem.
    """
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
            "-1 stands for any size; nest the lists accordingly.",
            expected=port.sizes(),
            got=list(array.shape),
        )
    return array


def _place(name: str) -> Place:
    return lambda index: (
        f"Input {name!r}, row {index[0]}" + (f", position {list(index[1:])}" if index[1:] else ""),
        {"input": name, "row": index[0], "position": list(index[1:])},
    )


def script_ports(module: Any, examples: Any) -> List[Port]:
    """Return forward's arguments except self. Raises TypeError for one that is no tensor and has no default."""
    ports = []
    for index, argument in enumerate(module.forward.schema.arguments[1:]):
        if str(argument.type) not in ("Tensor", "Optional[Tensor]"):
            if argument.has_default_value():
                continue
            raise TypeError(f"forward's argument {argument.name!r} is a {argument.type}; a request fills tensors only")
        if argument.has_default_value():
            continue
        example = examples[index] if examples is not None and index < len(examples) else None
        if isinstance(example, torch.Tensor):
            shape = (None, *example.shape[1:]) if example.ndim else ()
            ports.append(Port(argument.name, DATATYPES.get(example.dtype, "FP32"), shape))
        else:
            ports.append(Port(argument.name, _first_datatype(module)))
    return ports


def forward_ports(module: Any) -> List[Port]:
    given = inspect.signature(module.forward).parameters.values()
    needed = [
        parameter
        for parameter in given
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return [Port(parameter.name, _first_datatype(module)) for parameter in needed]


def _first_datatype(module: Any) -> str:
    """Return the module's likely input datatype: integers for an embedding, otherwise the type of its first weights."""
    for part in module.modules():
        if (getattr(part, "original_name", "") or type(part).__name__) in ("Embedding", "EmbeddingBag"):
            return "INT64"
        for weight in part.parameters(recurse=False):
            return DATATYPES.get(weight.dtype, "FP32")
    return "FP32"


def exported_ports(program: Any) -> List[Port]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [(name, nodes[name].meta["val"]) for name in program.graph_signature.user_inputs]
    return [Port(name, DATATYPES.get(value.dtype, "FP32"), _shape(value.shape)) for name, value in values]


def _shape(sizes: Sequence[Any]) -> Tuple[Optional[int], ...]:
    """Convert exported sizes. A dynamic dimension is not a plain int and becomes None."""
    return tuple(size if type(size) is int else None for size in sizes)
