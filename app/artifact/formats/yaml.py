"""Reads YAML that came with a model: plain values only, within bounds, no key twice.

YAML's words are those of JSON: `yes`, `off`, 010 and 2024-01-01 stay text, as their writer sees them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from app.core.plain import valid_text
from app.errors import BadInput

if TYPE_CHECKING:
    import yaml

BYTES_MAX: Final = 1 << 20
VALUES_MAX: Final = 100_000
"""Most values. An alias counts as often as it stands for something: a few lines of YAML can mean billions."""

_PLAIN: Final = (
    ("bool", re.compile("true|True|TRUE|false|False|FALSE"), "tTfF"),
    ("int", re.compile("[-+]?(?:0|[1-9][0-9]{0,30})"), "-+0123456789"),
    ("float", re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?"), "-+.0123456789"),
    ("null", re.compile("~|null|Null|NULL|"), "~nN\0"),
)


def read_yaml(path: Path, texts: Collection[str] = ()) -> Any:
    """Read the document of a YAML file. texts: keys at its top whose value stays text, so that 3.10 is not 3.1.

    Raises BadInput naming the file and the line.
    """
    content = read_text(path)
    import yaml  # 4 MB, for a gateway that may never meet any

    try:
        loader = _loader(yaml)(content)
        node = loader.get_single_node()
        _take_as_text(node, texts)
        value = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _unreadable(path, f"{error.problem or error.context}{place}") from error
    except yaml.YAMLError as error:
        raise _unreadable(path, " ".join(str(error).split())[:200]) from error
    except (RecursionError, ValueError, OverflowError) as error:
        raise _unreadable(path, "it is nested too deeply, or has an invalid value") from error
    _count(value, path)
    return value


def read_text(path: Path, most_bytes: int = BYTES_MAX) -> str:
    """Read a text file. Raises BadInput if it is too large, or not UTF-8."""
    if path.stat().st_size > most_bytes:
        raise _unreadable(path, f"it is larger than {most_bytes >> 20} MiB")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"it is not UTF-8 text (byte {error.start})") from error


def _take_as_text(node: Any, texts: Collection[str]) -> None:
    for key, value in node.value if getattr(node, "id", "") == "mapping" else ():
        if key.value in texts and value.id == "scalar" and not value.tag.endswith(":null"):
            value.tag = "tag:yaml.org,2002:str"


def _loader(yaml: Any) -> Any:
    """Make a loader of JSON's values in YAML's notation."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

        def construct_scalar(self, node: yaml.ScalarNode) -> Any:
            value = super().construct_scalar(node)
            return valid_text(value) if isinstance(value, str) else value  # an escape may stand for half a character

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key, _ in node.value:
                if not isinstance(key.value, str):
                    continue
                if (name := (key.tag, valid_text(key.value))) in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add(name)
            mapping: dict[Any, Any] = super().construct_mapping(node, deep=True)
            return mapping

    for kind, pattern, first in _PLAIN:
        anchored = re.compile(f"(?:{pattern.pattern})$")
        letters = [*first.replace("\0", ""), *([""] if "\0" in first else [])]
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", anchored, letters)
    return Loader


def _count(value: Any, path: Path) -> None:
    pending, seen = [value], 0
    while pending:
        seen += 1
        if seen > VALUES_MAX:
            raise _unreadable(path, f"it has more than {VALUES_MAX} values")
        item = pending.pop()
        if isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item
        elif not isinstance(item, str | int | float | None):
            raise _unreadable(path, f"it has a value that JSON cannot express: {type(item).__name__}")


def _unreadable(path: Path, reason: str) -> BadInput:
    return BadInput(f"{path.name} cannot be read: {reason}.", hint="Correct that file.")
