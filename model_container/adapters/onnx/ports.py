"""Inputs and outputs of an ONNX graph, in the terms of the Open Inference Protocol."""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from model_container.adapters.base import tensor

TENSOR, SEQUENCE, MAP, MAPS = "tensor", "sequence", "map", "maps"
"""Kinds of values: a tensor, a list of tensors, an object, a list of objects (ZipMap's, one per row)."""

_DATATYPES = {
    "float16": "FP16",
    "bfloat16": "BF16",
    "float": "FP32",
    "double": "FP64",
    "bool": "BOOL",
    "string": "BYTES",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_TYPE = re.compile(r"(optional\()?(seq\()?(?:map\((\w+),)?tensor\((\w+)\)\)*$")


class Port(NamedTuple):
    """Input or output of a graph. datatype: of the elements, "" if the protocol has no name for it.

    shape: None is a variable dimension. symbols: the dimensions as the graph gives them: sizes, names, None.
    keys: datatype of a map's keys. A graph without any shape cannot be distinguished from one with a scalar's shape.
    """

    name: str
    datatype: str
    shape: Tuple[Optional[int], ...] = ()
    kind: str = TENSOR
    symbols: Tuple[Union[int, str, None], ...] = ()
    keys: str = ""
    optional: bool = False

    @property
    def rows(self) -> Optional[int]:
        """Return the fixed number of rows, None if any number is allowed."""
        if self.kind != TENSOR:
            return None
        return self.shape[0] if self.shape else 1

    @property
    def is_joinable(self) -> bool:
        """Return whether the first dimension may have any size."""
        return self.kind == TENSOR and bool(self.shape) and self.shape[0] is None

    def sizes(self) -> List[int]:
        return [-1 if size is None else size for size in self.shape]

    def described(self) -> Dict[str, Any]:
        """Describe the port for the signature.

        A value that is no tensor becomes one of BYTES, with each element as JSON.
        """
        if self.kind == TENSOR:
            described = tensor(self.name, self.datatype, self.sizes())
        else:
            described = tensor(self.name, "BYTES", [1] if self.kind == MAP else [-1])
        return {**described, "optional": True} if self.optional else described


def port(node: Any, optional: bool = False) -> Port:
    """Read a port. node: a NodeArg of onnxruntime. optional: a request may leave it out, whatever its type says."""
    symbols = tuple(node.shape or ())
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in symbols)
    match = _TYPE.match(node.type)
    if not match:
        return Port(node.name, "", shape)
    is_optional, sequence, keys, element = match.groups()
    kind = (MAPS if sequence else MAP) if keys else (SEQUENCE if sequence else TENSOR)
    datatype = _DATATYPES.get(element, "")
    return Port(
        node.name, datatype, shape, kind, symbols, _DATATYPES.get(keys or "", ""), bool(is_optional) or optional
    )
