"""config.yaml: what its owner wrote in it, with the line of each entry and of each mistake.

Every value is text, as in the environment: `port: 8000` says what PRISM_PORT=8000 says, and `yes` stays yes.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    import yaml

SECTION: Final = "serving"
SECTIONS_TO_COME: Final = frozenset(
    {
        *("server", "providers", "model_map", "auth", "routing", "cache", "rate_limiting", "cost_tracking"),
        *("budgets", "logging", "guardrails", "privacy", "tool_policy", "ip_acl", "cors", "prometheus"),
        *("audit", "otel", "alerting", "admin", "model_database", "mcp", "a2a", "redis"),
        *("rbac", "license_auth", "secrets", "cluster", "edge", "control_plane", "assistants"),
    }
)
"""Sections of the LLM gateway, which are told apart from misspelt ones: they mean nothing yet."""
NO_VALUE: Final = frozenset(("", "~", "null", "Null", "NULL"))
"""What YAML writes for nothing; it leaves a setting at its default."""


class Problem(Struct, frozen=True):
    """A mistake. line: 0 for one that no single line has. is_warning: the server starts all the same."""

    line: int
    message: str
    hint: str = ""
    is_warning: bool = False


class Entry(Struct, frozen=True):
    """A key of the section with its value, as written; None for no value."""

    key: str
    value: str | None
    line: int


class Document(Struct, frozen=True):
    """What a text says. entries: those of `serving:` that name a setting, each once."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    is_readable: bool = True


class UnreadableYaml(Exception):
    """The text is no YAML document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read_document(text: str, names: Collection[str]) -> Document:
    """Read a text. names: the settings that there are. Never raises; mistakes are in `problems`."""
    try:
        root = compose(text)
    except UnreadableYaml as error:
        return Document(problems=(error.problem,), is_readable=False)
    found = [*_sections(root, names)]
    return Document(
        tuple(one for one in found if isinstance(one, Entry)), tuple(one for one in found if isinstance(one, Problem))
    )


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a text; None if there are none. Nothing is constructed from them. Raises UnreadableYaml."""
    import yaml  # 4 MB, for a server that may have no such file

    try:
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UnreadableYaml(Problem(line, f"this is not YAML: {error.problem or error.context}")) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableYaml(Problem(line, f"this is not YAML: {error.reason}")) from error
    except RecursionError as error:
        raise UnreadableYaml(Problem(1, "this is nested too deeply")) from error


def nearest(key: str, names: Collection[str]) -> str:
    """Return the name that was probably meant; "" if none is like it."""
    plain = key.lower().removeprefix("prism_").replace("-", "_")
    return next(iter(difflib.get_close_matches(plain, sorted(names), n=1, cutoff=0.4)), "")


def pairs(mapping: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Yield each key of a mapping as text, with its node and its value's; a key that is no text is ""."""
    for key, value in mapping.value:
        yield (key.value if isinstance(key.value, str) else ""), key, value


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def kind_of(node: yaml.Node) -> str:
    """Return "scalar", "sequence" or "mapping"."""
    return str(getattr(node, "id", ""))


def is_nothing(node: yaml.Node) -> bool:
    return kind_of(node) == "scalar" and getattr(node, "style", None) is None and node.value in NO_VALUE


def _sections(root: yaml.Node | None, names: Collection[str]) -> Iterator[Entry | Problem]:
    if root is None or is_nothing(root):
        return
    if kind_of(root) != "mapping":
        yield Problem(
            line_of(root), "the file has no sections", f"Write `{SECTION}:` and its settings below, indented."
        )
        return
    seen: dict[str, int] = {}
    for section, key, value in pairs(root):
        if section in seen:
            yield _repeated(section, line_of(key), seen[section])
        elif section == SECTION:
            yield from _settings(value, names)
        else:
            yield _foreign_section(section, line_of(key), names)
        seen.setdefault(section, line_of(key))


def _foreign_section(section: str, line: int, names: Collection[str]) -> Problem:
    if section in SECTIONS_TO_COME:
        return Problem(line, f"`{section}` is known, but this version does not serve it yet", is_warning=True)
    if section in names:
        return Problem(line, f"`{section}` is a setting, not a section", f"Put it below `{SECTION}:`, indented.")
    meant = nearest(section, {SECTION, *SECTIONS_TO_COME})
    return Problem(line, f"{_shown(section)} is no section", f"Did you mean `{meant}`?" if meant else "")


def _settings(section: yaml.Node, names: Collection[str]) -> Iterator[Entry | Problem]:
    if is_nothing(section):
        return
    if kind_of(section) != "mapping":
        yield Problem(
            line_of(section), f"`{SECTION}` holds no settings", "Write them below it, indented: `port: 8000`."
        )
        return
    seen: dict[str, int] = {}
    for name, key, value in pairs(section):
        if name in seen:
            yield _repeated(name, line_of(key), seen[name])
        elif name not in names:
            meant = nearest(name, names)
            hint = f"Did you mean `{meant}`?" if meant else "`prism config get` lists all settings."
            yield Problem(line_of(key), f"{_shown(name)} is no setting", hint)
        elif kind_of(value) != "scalar":
            yield Problem(line_of(key), f"`{name}` is not one value", "Write several with commas: `a,b`.")
        else:
            yield Entry(name, None if is_nothing(value) else value.value, line_of(key))
        seen.setdefault(name, line_of(key))


def _repeated(key: str, line: int, first: int) -> Problem:
    return Problem(line, f"{_shown(key)} is there twice; line {first} has it, too")


def _shown(key: str) -> str:
    return f"`{key[:60]}`" if key else "this key"
