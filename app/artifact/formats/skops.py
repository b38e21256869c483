"""Reads the schema of a skops file: which types and functions loading it would import, and what it says of libraries.

A skops file is a zip archive: `schema.json`, a tree of nodes that name their class, and the arrays as .npy members.
Nothing is computed when it is loaded: nodes are imports, constructor calls and attributes. So the same verdict is
given on its names as on a pickle's. Source: skops/io/_general.py, _numpy.py and _sklearn.py of skops 0.16.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgspec

from app.artifact.archives.zip_index import ZipFile, damaged
from app.artifact.pickles import PickleReading
from app.artifact.pickles.symbols import WIDTHS_MAX
from app.core.inspection import Pin

SCHEMA: Final = "schema.json"
SCHEMA_BYTES_MAX: Final = 64 << 20
PLAIN_TYPES: Final = frozenset({"builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.NoneType"})


def is_skops(names: frozenset[str]) -> bool:
    """Return whether an archive is a skops file: nothing else has a schema and, beside it, only arrays.

    names: those of the archive's members.
    """
    return SCHEMA in names and all(name == SCHEMA or name.endswith((".npy", ".npz", ".bin")) for name in names)


def read_skops(archive: ZipFile) -> tuple[PickleReading, str]:
    """Return what loading the file would import and call, as for a pickle, and the version of skops that wrote it.

    Raises UnreadableArtifact for a schema that is not one of skops.
    """
    try:
        schema = msgspec.json.decode(archive.read(SCHEMA, SCHEMA_BYTES_MAX), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(f"`{SCHEMA}` is not a skops schema: {str(error)[:200]}") from error
    protocol, version = schema.get("protocol"), schema.get("_skops_version")
    if not isinstance(protocol, int) or not isinstance(version, str) or "__loader__" not in schema:
        raise damaged(f"`{SCHEMA}` is not a skops schema")
    return _walk(schema, protocol), version


def pin_of_skops(version: str) -> Pin:
    """Pin skops to the version that wrote the file, or a newer one: it reads what an older one wrote."""
    known = bool(version) and version.replace(".", "").isdigit()
    return Pin("skops", f">={version}" if known else "", f"skops {version[:30]} wrote this format, and reads it")


def _walk(schema: dict[str, Any], protocol: int) -> PickleReading:
    """Walk the nodes, outer ones first: the feature names found first are those of the model and not of a step."""
    names: set[str] = set()
    called: set[str] = set()
    held: set[str] = set()
    versions: set[str] = set()
    features: tuple[str, ...] = ()
    widths: set[int] = set()
    pending: deque[Any] = deque([schema])
    while pending:
        node = pending.popleft()
        if isinstance(node, list):
            pending.extend(node)
        if not isinstance(node, dict):
            continue
        if name := _name(node):
            names.add(name)
            if node.get("__loader__") == "ConstructorFromReduceNode" or "__reduce__" in node:
                called.add(name)
            if node.get("__loader__") == "MethodNode":
                names.add(f"{name}:{_method(node)}")
        if node.get("__loader__") == "PartialNode":
            held |= _kept(node)
        versions |= _texts(node.get("_sklearn_version"))
        features = features or _listed(node.get("feature_names_in_"))
        if len(widths) < WIDTHS_MAX:
            widths |= _widths(node.get("n_features_in_"))
        pending.extend(node.values())
    return PickleReading(
        protocol=protocol,
        globals=tuple(sorted(names)),
        called=tuple(sorted(called)),
        held=tuple(sorted(held)),
        sklearn_versions=tuple(sorted(versions)),
        feature_names=features,
        widths=tuple(sorted(widths)),
    )


def _name(node: dict[str, Any]) -> str:
    """Return what a node imports, "" for plain values, which are JSON, and for what is no node."""
    module, name = node.get("__module__"), node.get("__class__")
    if not isinstance(module, str) or not isinstance(name, str):
        return ""
    full = f"{module}.{name}"
    return "" if full in PLAIN_TYPES else full


def _method(node: dict[str, Any]) -> str:
    """Return the name of the method that a node takes from its object, whatever class it says it is of."""
    content = node.get("content")
    return str(content.get("func")) if isinstance(content, dict) else "?"


def _kept(node: dict[str, Any]) -> set[str]:
    """Return what a `functools.partial` will call: the class of its function's node. Its arguments have own nodes."""
    content = node.get("content")
    function = content.get("func") if isinstance(content, dict) else None
    if not isinstance(function, dict):
        return {"functools.partial"}
    if function.get("__loader__") == "PartialNode":
        return set()  # it is looked into when its turn comes
    return {_name(function) or "functools.partial"}


def _texts(node: Any) -> set[str]:
    """Return the value of a node that holds one text; nothing for another node."""
    text = _value(node)
    return {text} if isinstance(text, str) else set()


def _widths(node: Any) -> set[int]:
    """Return the value of a node that holds a number of columns; nothing for another node."""
    width = _value(node)
    return {width} if type(width) is int else set()


def _value(node: Any) -> Any:
    content = node.get("content") if isinstance(node, dict) else None
    try:
        return msgspec.json.decode(content) if isinstance(content, str) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _listed(node: Any) -> tuple[str, ...]:
    """Return the texts of an array of objects, which is stored as a list of nodes."""
    content = node.get("content") if isinstance(node, dict) else None
    if not isinstance(content, list):
        return ()
    return tuple(text for item in content for text in _texts(item))
