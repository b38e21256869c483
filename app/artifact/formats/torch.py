"""Reads PyTorch's files without PyTorch: which of its four kinds one is, and what its pickles would import.

All are zip archives with one folder at the top:

    TorchScript (torch.jit.save)       code/ in a language of its own, and pickles that only restore tensors
    exported (torch.export.save)       models/*.json, a graph of operators, and tensors
    whole module or state dict         data.pkl: an ordinary pickle, whose classes must be importable

Sources: torch/csrc/jit/serialization/export_module.cpp, torch/export/pt2_archive/constants.py, torch/serialization.py.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct
from packaging.version import InvalidVersion, Version

from app.artifact.archives.zip_index import Member, ZipFile, damaged
from app.artifact.pickles import PickleReading, read_tensor_pickles
from app.core.inspection import MODULE_OF_WEIGHTS, Format, Pin
from app.errors import UnreadableArtifact

PICKLE_BYTES_MAX: Final = 256 << 20
GRAPH_BYTES_MAX: Final = 64 << 20
OF_WEIGHTS: Final = re.compile(r"torch\.(_utils\._rebuild_\w+|\w*Storage|\w+\d+|Size|device)|collections\.OrderedDict")
"""Imports of a state dict, none of which computes."""


class TorchReading(Struct, frozen=True):
    """A PyTorch file as it describes itself.

    pickles: what loading it would import; a script imports nothing. torch_version: of the PyTorch that saved it, "" where
    it does not say.
    """

    format: Format
    pickles: PickleReading
    facts: dict[str, str]
    torch_version: str = ""

    @property
    def missing_code(self) -> tuple[str, ...]:
        """The code that a file lacks: weights are no model without that of the module that they belong to."""
        return (MODULE_OF_WEIGHTS,) if self.facts.get("holds") == "weights" else ()


def is_torch(names: frozenset[str]) -> bool:
    """Return whether an archive is one of PyTorch's. names: those of its members."""
    root = _root(names)
    return root is not None and (f"{root}archive_format" in names or {f"{root}data.pkl", f"{root}version"} <= names)


def read_torch(archive: ZipFile) -> TorchReading | None:
    """Read an archive of PyTorch's; None for another archive. Raises UnreadableArtifact for a damaged one."""
    root = _root(archive.names)
    if root is None:
        return None
    if f"{root}archive_format" in archive.names:
        return _exported(archive, root)
    if f"{root}data.pkl" not in archive.names or f"{root}version" not in archive.names:
        return None
    version = archive.read(f"{root}version", 100).decode("ascii", "replace").strip()
    if f"{root}constants.pkl" in archive.names:
        return TorchReading(Format.TORCHSCRIPT, PickleReading(2, ()), {"torchscript_version": version})
    pickles = _pickles(archive, [f"{root}data.pkl"])
    holds = "weights" if all(OF_WEIGHTS.fullmatch(name) for name in pickles.globals) else "a module"
    return TorchReading(Format.TORCH, pickles, {"torch_file_version": version, "holds": holds})


def pin_of_torch(torch_version: str = "") -> Pin:
    """Pin torch from the version on that saved the file, as PyTorch reads what older ones wrote.

    Only exported programs name it; the other archives name the version of their own format.
    """
    try:
        saved_by = Version(torch_version)
    except InvalidVersion:
        return Pin("torch", "", "PyTorch reads this format")
    return Pin("torch", f">={saved_by.base_version}", f"torch {saved_by.public} saved the exported program")


def _root(names: frozenset[str]) -> str | None:
    """Return the one folder at the top, with its slash; None where there is more at the top."""
    tops = {name.partition("/")[0] for name in names}
    return f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in names) else None


def _exported(archive: ZipFile, root: str) -> TorchReading | None:
    if archive.read(f"{root}archive_format", 100).strip() != b"pt2":
        return None
    graphs = sorted(name for name in archive.names if name.startswith(f"{root}models/") and name.endswith(".json"))
    if len(graphs) != 1:
        raise UnreadableArtifact(
            f"The archive holds {len(graphs)} exported programs.", hint="Save one with torch.export.save."
        )
    inside = [name for name in archive.names if name.endswith((".pt", ".pkl")) or _is_pickled_weight(archive, name)]
    inputs, torch_version = _graph(archive.read(graphs[0], GRAPH_BYTES_MAX))
    facts = {"graph_inputs": ", ".join(inputs)}
    return TorchReading(Format.TORCH_EXPORT, _pickles(archive, sorted(inside)), facts, torch_version)


def _is_pickled_weight(archive: ZipFile, name: str) -> bool:
    """Return whether a member is a weight that is no plain tensor: an archive of torch.save in the archive."""
    return "/data/" in name and archive.starts_with(name, b"PK\x03\x04")


def _graph(graph: bytes) -> tuple[list[str], str]:
    """Return the names of an exported program's inputs, and the version of the PyTorch that saved it."""
    try:
        document: Any = msgspec.json.decode(graph)
        specs = document["graph_module"]["signature"]["input_specs"]
        inputs = [spec["user_input"]["arg"]["as_tensor"]["name"] for spec in specs if "user_input" in spec]
        return inputs, str(document.get("torch_version", ""))[:50]
    except (msgspec.MsgspecError, RecursionError, KeyError, TypeError) as error:
        raise damaged(f"its graph cannot be read: {type(error).__name__}") from error


def _pickles(archive: ZipFile, names: list[str]) -> PickleReading:
    return read_tensor_pickles(Member(content) for name in names for content in _pickled(archive, name))


def _pickled(archive: ZipFile, name: str) -> Iterator[bytes]:
    """Yield the pickle itself, or those within an archive of torch.save."""
    content = archive.read(name, PICKLE_BYTES_MAX)
    if not content.startswith(b"PK\x03\x04"):
        yield content
        return
    with ZipFile(io.BytesIO(content)) as inner:
        for member in sorted(inner.names):
            if member.endswith(".pkl"):
                yield inner.read(member, PICKLE_BYTES_MAX)
