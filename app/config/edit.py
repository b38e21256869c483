"""Changes one value in the text of config.yaml. Everything else stays as its owner wrote it, comments included."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from app.config.document import NO_VALUE, SECTION, UnreadableYaml, compose, is_nothing, kind_of, pairs
from app.errors import Conflict

if TYPE_CHECKING:
    import yaml

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.@+-]*")
_NEW_FILE: Final = "# Settings of PRISM. `prism config check` checks them, `prism config get` lists all.\n"


def with_value(text: str | None, key: str, value: str) -> str:
    """Return the text with `key: value` in its section `serving:`. text: None for a new file.

    Raises Conflict where the text cannot be changed in one place alone.
    """
    before = _NEW_FILE if text is None else text
    try:
        changed = _put(before, key, value)
        if _is_same(_expected(before, key, value), compose(changed), set()):
            return changed
    except UnreadableYaml:
        pass
    raise Conflict(
        f"`{key}` cannot be set without changing other lines of the file.",
        hint="Write it by hand: `prism config edit`.",
    )


def without_value(text: str, key: str) -> str:
    """Return the text without `key` in its section `serving:`; unchanged if it is not there. Raises as `with_value`."""
    try:
        found = _child(compose(text), SECTION)
        if found is None or _child(found[1], key) is None:
            return text
        changed = _taken_out(text, found[1], key)
        if _is_same(_expected_without(text, key), compose(changed), set()):
            return changed
    except UnreadableYaml:
        pass
    raise Conflict(
        f"`{key}` cannot be taken out without changing other lines of the file.",
        hint="Remove it by hand: `prism config edit`.",
    )


def _taken_out(text: str, section: yaml.Node, key: str) -> str:
    """Take out the lines of a key and its value; in a section written as `{…}`, those and a comma."""
    entries = section.value
    index = next(number for number, (name, _) in enumerate(entries) if name.value == key)
    name, value = entries[index]
    end = max(name.end_mark.index, len(text[: value.end_mark.index].rstrip()))
    if not getattr(section, "flow_style", False):
        start, newline = text.rfind("\n", 0, name.start_mark.index) + 1, text.find("\n", end)
        return _splice(text, start, newline + 1 if newline >= 0 else len(text), "")
    if index + 1 < len(entries):
        return _splice(text, name.start_mark.index, entries[index + 1][0].start_mark.index, "")
    return _splice(text, entries[index - 1][1].end_mark.index if index else name.start_mark.index, end, "")


def _expected_without(text: str, key: str) -> yaml.Node | None:
    """Return the nodes of the text as they are to be without the key. A section of lines that is left empty is none."""
    import yaml

    root = compose(text)
    found = _child(root, SECTION)
    if root is None or found is None:
        return root
    name, section = found
    section.value = [(each, value) for each, value in section.value if each.value != key]
    if not section.value and not getattr(section, "flow_style", False):
        nothing = yaml.ScalarNode("tag:yaml.org,2002:null", "")
        root.value = [(each, nothing if each is name else value) for each, value in root.value]
    return root


def _put(text: str, key: str, value: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    root = compose(text)
    found = _child(root, SECTION)
    if found is None:
        gap = "" if not text or text.endswith("\n") else newline
        return f"{text}{gap}{SECTION}:{newline}  {key}: {_scalar(value)}{newline}"
    name, section = found
    if is_nothing(section):
        return _insert_line(text, name.end_mark.index, f"  {key}: {_scalar(value)}", newline)
    if known := _child(section, key):
        return _replace(text, known[1], _scalar(value))
    if getattr(section, "flow_style", False):
        comma = ", " if section.value else ""
        return _splice(
            text, section.start_mark.index + 1, section.start_mark.index + 1, f"{key}: {_scalar(value)}{comma}"
        )
    indent = " " * section.value[0][0].start_mark.column
    last = section.value[-1][1].end_mark.index
    return _insert_line(text, len(text[:last].rstrip()), f"{indent}{key}: {_scalar(value)}", newline)


def _replace(text: str, node: yaml.Node, value: str) -> str:
    """Put a value in the place of another, but for the line breaks at the end of a block."""
    start, end = node.start_mark.index, node.end_mark.index
    end = max(start, len(text[:end].rstrip()))
    return _splice(text, start, end, value if text[start - 1 : start].isspace() else f" {value}")


def _insert_line(text: str, after: int, line: str, newline: str) -> str:
    """Insert a line behind the one with the character at `after`."""
    end = text.find("\n", after)
    if end < 0:
        return f"{text}{newline}{line}{newline}"
    return _splice(text, end + 1, end + 1, f"{line}{newline}")


def _splice(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _scalar(value: str) -> str:
    """Write a value as YAML, in quotes unless it is a plain word or number."""
    if _PLAIN.fullmatch(value) and value not in NO_VALUE:
        return value
    import yaml

    return str(yaml.safe_dump(value, default_style='"', width=math.inf, allow_unicode=True)).strip()


def _child(mapping: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    if mapping is None or kind_of(mapping) != "mapping":
        return None
    return next(((name, value) for found, name, value in pairs(mapping) if found == key), None)


def _expected(text: str, key: str, value: str) -> yaml.Node | None:
    """Return the nodes of the text as they are to be after the change; None where it has no sections."""
    import yaml

    def scalar(content: str) -> yaml.Node:
        return yaml.ScalarNode("tag:yaml.org,2002:str", content)

    root = compose(text)
    if root is None:
        root = yaml.MappingNode("tag:yaml.org,2002:map", [])
    if kind_of(root) != "mapping":
        return None
    found = _child(root, SECTION)
    entries = found[1].value if found and kind_of(found[1]) == "mapping" else []
    kept = [(name, old) for name, old in entries if name.value != key]
    section = yaml.MappingNode("tag:yaml.org,2002:map", [*kept, (scalar(key), scalar(value))])
    others = [(name, old) for name, old in root.value if name.value != SECTION]
    root.value = [*others, (scalar(SECTION), section)]
    return root


def _is_same(one: yaml.Node | None, other: yaml.Node | None, seen: set[tuple[int, int]]) -> bool:
    """Return whether two texts say the same; the order of keys says nothing."""
    if one is None or other is None or kind_of(one) != kind_of(other):
        return one is other
    if (id(one), id(other)) in seen or kind_of(one) == "scalar":
        return (id(one), id(other)) in seen or one.value == other.value
    seen.add((id(one), id(other)))
    if kind_of(one) == "sequence":
        ours, theirs = one.value, other.value
    else:
        ours, theirs = ([node for pair in sorted(each.value, key=_key) for node in pair] for each in (one, other))
    return len(ours) == len(theirs) and all(_is_same(*both, seen) for both in zip(ours, theirs, strict=True))


def _key(pair: tuple[yaml.Node, yaml.Node]) -> str:
    return str(pair[0].value)
