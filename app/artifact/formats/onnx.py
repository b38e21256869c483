"""Reads what an ONNX file says of itself, and that it is whole, without onnx or protobuf.

The wire format is protobuf's (https://protobuf.dev/programming-guides/encoding), the field numbers are those of
onnx.proto. The file is mapped, not read: weights are passed over by their length.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from msgspec import Struct

from app.artifact.formats.onnx_size import OnnxSize, TooLargeError
from app.errors import UnreadableArtifact

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_DEPTH: Final = 64
"""Most messages nested in each other; a graph in a graph takes three."""

MAX_NAME_BYTES: Final = 8192
"""Longest name of a node, value, tensor or operator. Exporters write the path of modules, some hundred bytes."""

DAMAGED: Final = "The file is damaged or was not transferred completely; save it or upload it again."
TOO_LARGE: Final = "Simplify the model, for example with onnxsim or onnx.inliner, and export it again."

MODEL_FIELDS: Final = {
    1: VARINT,
    2: LENGTH,
    3: LENGTH,
    4: LENGTH,
    5: VARINT,
    6: LENGTH,
    7: LENGTH,
    8: LENGTH,
} | dict.fromkeys((14, 20, 25, 26), LENGTH)
CHILDREN: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Fields of a message that hold a message which has to be looked into."""

NAMES: Final[dict[str, frozenset[int]]] = {
    "model": frozenset(),
    "training": frozenset(),
    "function": frozenset({1, 4, 5, 6, 10, 13}),
    "graph": frozenset({2}),
    "node": frozenset({1, 2, 3, 4, 7, 8}),
    "attribute": frozenset({1, 21}),
    "sparse": frozenset(),
    "tensor": frozenset({8}),
}
"""Fields of a message that are names."""

CALLED: Final = {"node": (7, 4, 8), "function": (10, 1, 13)}
"""Fields for domain, name and overload of an operator, in the node that calls it and in the function it may be."""

DATATYPES: Final = {1: "FP32", 8: "BYTES", 9: "BOOL", 10: "FP16", 11: "FP64", 16: "BF16"}
"""Datatypes by onnx.TensorProto.DataType; any other is one of integers."""

RANK_MAX: Final = 8
PORTS_MAX: Final = 64
"""Most inputs whose shape is noted, and their most dimensions: a model with more takes no image."""

# Lists of numbers in an attribute are not packed: a large forest has millions. A regular expression passes over
# whole runs (`ints` = 8, `floats` = 7) at the speed of C.
RUNS: Final = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f]|\x3d.{4}){1,65536}+", re.DOTALL)


class OnnxReading(Struct, frozen=True):
    """An ONNX file as it describes itself.

    opsets: version by domain; the standard domain is "ai.onnx". inputs: those that are no initializers. ports: name,
    datatype and shape of each of them that is a tensor; −1 is any size.
    """

    ir_version: int
    producer: str
    opsets: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ports: tuple[tuple[str, str, tuple[int, ...]], ...] = ()


def read_onnx(path: Path, beside: frozenset[str] = frozenset()) -> OnnxReading | None:
    """Walk the file to its end; None if it is no ONNX file.

    beside: names of files in its folder, in which it may keep weights.
    Raises UnreadableArtifact if it is one, but damaged, incomplete, or with its weights in files that are not there.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if not _looks_like_onnx(data):
            return None
        return _Reader(data, beside).read()


def _looks_like_onnx(data: mmap.mmap) -> bool:
    """Return whether this may be ONNX: every writer begins with `ir_version`, then writes another field of a model."""
    if len(data) < 3 or data[0] != 0x08 or not 0 < data[1] < 0x80:
        return False
    return MODEL_FIELDS.get(data[2] >> 3) == data[2] & 7


class _Reader:
    def __init__(self, data: mmap.mmap, beside: frozenset[str]) -> None:
        self._data = data
        self._beside = beside
        self._ir_version = 0
        self._producer = ["", ""]
        self._opsets: dict[str, int] = {}
        self._domains: set[str] = set()
        self._inputs: list[str] = []
        self._ports: list[tuple[str, str, tuple[int, ...]]] = []
        self._outputs: list[str] = []
        self._initializers: set[str] = set()
        self._has_graph = False
        self._size = OnnxSize()

    def read(self) -> OnnxReading:
        try:
            for number, value, start, end in self._fields(0, len(self._data)):
                self._model_field(number, value, start, end)
            self._size.check()
        except TooLargeError as error:
            raise UnreadableArtifact(f"The ONNX file is not accepted: {error}.", hint=TOO_LARGE) from error
        if not self._has_graph:
            self._refuse(len(self._data), "it ends before the graph")
        if missing := sorted(self._domains - self._opsets.keys()) or (["ai.onnx"] if not self._opsets else []):
            self._refuse(len(self._data), f"the graph uses operators of `{missing[0]}` but does not declare its opset")
        return OnnxReading(
            self._ir_version,
            " ".join(filter(None, self._producer)),
            self._opsets,
            tuple(name for name in self._inputs if name not in self._initializers),
            tuple(self._outputs),
            tuple(port for port in self._ports if port[0] not in self._initializers),
        )

    def _model_field(self, number: int, value: int, start: int, end: int) -> None:
        if number == 1:
            self._ir_version = value
        elif number in (2, 3):
            self._producer[number - 2] = self._text(start, end)
        elif number == 7:
            self._has_graph = True
            self._graph(start, end)
        elif number == 8:
            domain, version = "", 0
            for field, field_value, field_start, field_end in self._fields(start, end):
                domain = self._text(field_start, field_end) if field == 1 else domain
                version = field_value if field == 2 else version
            self._opsets[domain or "ai.onnx"] = version
        elif number in CHILDREN["model"]:
            self._walk(CHILDREN["model"][number], start, end, 1)

    def _graph(self, start: int, end: int) -> None:
        """Note the names of the main graph, which are the model's."""
        for number, _, first, last in self._fields(start, end):
            if number == 11:
                self._inputs.append(self._name(1, first, last))
                self._port(self._inputs[-1], first, last)
            elif number == 12:
                self._outputs.append(self._name(1, first, last))
            elif number == 13:
                self._name(1, first, last)
            elif number in CHILDREN["graph"]:
                if number == 1:
                    self._domains.add(self._name(7, first, last) or "ai.onnx")
                elif number == 5:
                    self._initializers.add(self._name(8, first, last))
                self._walk(CHILDREN["graph"][number], first, last, 1)

    def _port(self, name: str, start: int, end: int) -> None:
        """Note an input that is a tensor of a known rank: TypeProto.tensor_type of its ValueInfoProto."""
        sizes: list[int] = []
        element = 0
        for first, last in self._inner((2, 1), start, end):
            for number, value, inner, inner_end in self._fields(first, last):
                element = value if number == 1 else element
                if number == 2:
                    sizes = [self._size_of(*dimension) for dimension in self._inner((1,), inner, inner_end)]
        if sizes and len(sizes) <= RANK_MAX and len(self._ports) < PORTS_MAX:
            self._ports.append((name, DATATYPES.get(element, "INT64"), tuple(sizes)))

    def _size_of(self, start: int, end: int) -> int:
        """Return the size of a dimension, −1 where it has a name or nothing."""
        value = -1
        for number, given, _, _ in self._fields(start, end):
            value = given if number == 1 and 0 < given < 1 << 31 else value
        return value

    def _inner(self, path: tuple[int, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the places of the messages that this path of field numbers leads to."""
        for number, _, first, last in self._fields(start, end):
            if number == path[0]:
                yield from self._inner(path[1:], first, last) if path[1:] else ((first, last),)

    def _walk(self, message: str, start: int, end: int, depth: int) -> None:
        """Look through a message for weights that are in other files, down to its last field."""
        if depth > MAX_DEPTH:
            raise TooLargeError(f"its graphs are nested more than {MAX_DEPTH // 3} deep")
        if message == "function":
            self._size.begin_function()
        children, names, called = CHILDREN[message], NAMES[message], dict.fromkeys(CALLED.get(message, ()), "")
        for number, value, first, last in self._fields(start, end):
            if number in names:
                text = self._text(first, last)
                if number in called:
                    called[number] = text
            elif number in children:
                self._walk(children[number], first, last, depth + 1)
            elif message == "tensor" and number == 13:
                self._weights_elsewhere(first, last)
            elif message == "tensor" and number == 14 and value == 1 and not self._beside:
                raise _elsewhere("another file")
        if message == "node":
            self._size.node(_operator(called, message))
        elif message == "function":
            self._size.end_function(_operator(called, message))

    def _weights_elsewhere(self, start: int, end: int) -> None:
        """Check one key and value that say where weights are. `location` is a path from the file's own folder.

        Raises UnreadableArtifact if the file with the weights did not come along.
        """
        if self._name(1, start, end) == "location" and (location := self._name(2, start, end)) not in self._beside:
            raise _elsewhere(f"`{location[:100]}`")
        if not self._beside:
            raise _elsewhere("another file")

    def _name(self, wanted: int, start: int, end: int) -> str:
        name = ""
        for number, _, first, last in self._fields(start, end):
            if number == wanted:
                name = self._text(first, last)
        return name

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (number, value of a varint, start, end of the content) for each field between the two offsets."""
        data = self._data
        while position < end:
            if data[position] in (0x40, 0x3D) and (run := RUNS.match(data, position, end)):
                position = run.end()
                continue
            begin = position
            tag, position = self._varint(position, end)
            number, kind, value = tag >> 3, tag & 7, 0
            start = position
            if kind == VARINT:
                value, position = self._varint(position, end)
            elif kind == LENGTH:
                length, start = self._varint(position, end)
                position = start + length
            elif kind in (FIXED64, FIXED32):
                position += 8 if kind == FIXED64 else 4
            else:
                self._refuse(begin, f"wire type {kind} is not used by ONNX")
            if position > end:
                self._refuse(begin, f"a field of {position - start} bytes does not fit into the {end - start} left")
            yield number, value, start, position

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        for at in range(position, min(position + 10, end)):
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at + 1
            shift += 7
        self._refuse(position, "a number has no end")

    def _text(self, start: int, end: int) -> str:
        if end - start > MAX_NAME_BYTES:
            raise TooLargeError(f"it has a name of {end - start} bytes, but at most {MAX_NAME_BYTES} are allowed")
        return self._data[start:end].decode("utf-8", "replace")

    def _refuse(self, position: int, reason: str) -> NoReturn:
        raise UnreadableArtifact(
            f"The ONNX file cannot be read at byte {position} of {len(self._data)}: {reason}.",
            hint=DAMAGED,
            offset=position,
        )


def _operator(called: dict[int, str], message: str) -> tuple[str, str, str]:
    domain, name, overload = (called[number] for number in CALLED[message])
    return ("" if domain == "ai.onnx" else domain), name, overload


def _elsewhere(where: str) -> UnreadableArtifact:
    return UnreadableArtifact(
        f"The ONNX file keeps weights in {where} (external data), which was not uploaded.",
        hint="Upload the whole folder, as an archive. Or save the weights inside the file: "
        "onnx.save(onnx.load(path), path, save_as_external_data=False); up to 2 GB fit.",
    )
