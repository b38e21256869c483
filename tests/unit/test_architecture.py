"""The rules of the house, read from the source: who may import whom, and who may read the environment."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import pytest

from app.artifact.python_source import syntax_tree
from app.settings import Settings
from scripts import settings_page
from tests.unit.imports_lab import ROOT, modules, within

SURFACES = ("app.api", "app.http", "app.protocols", "app.public", "app.ui")
WIRING = ("app.main", "app.gateway", "app.serve", "app.prepare", "app.foreground")
ADAPTERS = (
    *("app.registry", "app.share"),
    *("app.runtime.docker", "app.runtime.packages", "app.runtime.process", "app.runtime.targets"),
)
"""What is handed in; `app.runtime.target` is the contract of the last, `app.runtime.logs` their logs."""

FORBIDDEN = [
    # importer, what it must not import, but for
    ("app.core", ("app", "model_container", "prism"), ("app.core", "app.errors")),
    ("app.errors", ("app", "model_container", "prism"), ()),
    ("app.settings", ("app", "model_container", "prism"), ("app.core", "app.errors")),
    (
        "app.config",
        ("app", "model_container", "prism"),
        ("app.config", "app.core", "app.errors", "app.settings"),
    ),
    ("app.artifact", ("app", "prism"), ("app.artifact", "app.core", "app.errors")),
    ("app.access", ("app", "model_container", "prism"), ("app.access", "app.core", "app.errors")),
    (
        "app.http",
        ("app.api", "app.protocols", "app.public", "app.ui", "app.lifecycle", "app.dispatch", *ADAPTERS, *WIRING),
        (),
    ),
    ("app.protocols", ("app.api", "app.public", "app.ui", *ADAPTERS, *WIRING), ()),
    (
        "app.dispatch",
        ("app.lifecycle", "app.artifact", "app.config", "app.settings", *SURFACES, *ADAPTERS, *WIRING),
        (),
    ),
    ("app.lifecycle", ("app.dispatch", "app.access", "app.config", "app.settings", *SURFACES, *ADAPTERS, *WIRING), ()),
    ("app.runtime", ("app.lifecycle", "app.dispatch", "app.access", "app.registry", *SURFACES, *WIRING), ()),
    ("app.registry", ("app.lifecycle", "app.dispatch", "app.runtime", *SURFACES, *WIRING), ()),
    ("app.observe", ("app.lifecycle", "app.dispatch", *SURFACES, *WIRING), ()),
    (
        "app.share",
        ("app", "model_container", "prism"),
        ("app.share", "app.core", "app.errors", "app.settings", "app.core.atomic_file", "app.registry.unsaved"),
    ),
    ("app.api", ("app.main", "app.gateway", "app.ui"), ()),
    ("app.public", ("app.main", "app.gateway", "app.ui"), ()),
    ("app.ui", ("app.main", "app.gateway"), ()),
    ("app", ("model_container",), ("model_container.contract", "model_container.sandbox")),
    ("app", ("prism",), ()),
    ("model_container", ("app", "prism"), ()),
]
READS_ARTIFACTS = "app.artifact.reader"  # the program of a confined child, which nothing of the gateway imports
PARSERS = {
    *(
        f"app.artifact.{name}"
        for name in ("formats", "pickles", "code_files", "definitions", "folder", "inspection", "owner_code", "read")
    ),
    *(f"app.artifact.archives.{name}" for name in ("compression", "tar_stream", "unpack", "zip_index", "zip_stream")),
    "app.artifact.python_source",
    *("picklescan", "yaml", "lz4", "zipfile", "pickletools", "ast", "bz2", "lzma"),
}
OWN_YAML = {("app.config.document", "yaml")}
"""Who reads the settings' own file, which nobody but the server's owner writes."""
ACT_ON_THIS_MACHINE = (
    "prism.cli.config",
    "prism.cli.doctor",
    "prism.cli.local_server",
    "prism.cli.service",
    "prism.cli.systemd",
)  # the rest of the CLI speaks through the API
COMMANDS_MAY_IMPORT = ("app.config", "app.errors", "app.settings")
MODEL_LIBRARIES = {"numpy", "sklearn", "joblib", "onnxruntime", "onnx", "pandas", "scipy", "pickle", "cloudpickle"}
FILE_TYPES = "model_container.contract.file_types"  # of requests: client and server must agree on them
FASTER_IF_THERE = ("prism.load.generator", "uvloop")
PICKLES = "prism.memory"  # what is in memory already, and unpickles nothing
CORE_LIBRARIES = {"msgspec"}
SLOW_LIBRARIES = {"docker", "sqlalchemy", "sqlite3"}
READS_ENVIRONMENT = {
    "app.settings",
    "app.config.loading",
    "app.core.child_environment",  # hands on what programs that we start may have of it
    "app.runtime.packages.index",  # of pip and uv, not of PRISM
    "app.runtime.packages.uv",
    "app.runtime.docker.engine",  # DOCKER_HOST, as Docker's own clients read it
    "app.runtime.targets",  # XDG_RUNTIME_DIR, the system's place for sockets
    "model_container.contract.config",
    "prism.connection",  # where the server is, for a client that may be on another machine
}


class Import(NamedTuple):
    importer: str
    imported: str
    line: int
    only_for_types: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported} (line {self.line})"


@cache
def imports() -> tuple[Import, ...]:
    """Every import at any level, also within functions."""
    return tuple(one for name, tree in modules().items() for one in imports_of(name, tree))


def imports_of(importer: str, tree: ast.Module) -> Iterator[Import]:
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = origin(importer, node)
            names = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else base for name in names]
        else:
            continue
        for name in names:
            yield Import(importer, name, node.lineno, id(node) in for_types)


def origin(importer: str, node: ast.ImportFrom) -> str:
    """The whole name of the module after `from`, which may be relative."""
    if not node.level:
        return str(node.module)
    package = (
        importer if (ROOT.joinpath(*importer.split(".")) / "__init__.py").is_file() else importer.rpartition(".")[0]
    )
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, node.module] if node.module else parents)


def told(found: list[Import]) -> str:
    return "\n".join(str(one) for one in found)


def test_artifacts_are_parsed_in_readers_alone() -> None:
    """Whatever the gateway imports, at its start or later, has no parser in it; the readers' program has them all."""
    reached: set[Import] = set()
    pending = {"app.serve", "app.main"}
    while pending:
        found = {one for one in imports() if one.importer in pending and not one.only_for_types} - reached
        reached |= found
        pending = {one.imported for one in found}
    parsers = [one for one in reached if within(one.imported, {*PARSERS, READS_ARTIFACTS})]
    assert not told([one for one in parsers if (one.importer, one.imported) not in OWN_YAML])


def test_there_are_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.imported in graph and one.imported != one.importer and not one.only_for_types:
            graph[one.importer].add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


@pytest.mark.parametrize(("package", "forbidden", "allowed"), FORBIDDEN, ids=[f"{r[0]}-{r[1][0]}" for r in FORBIDDEN])
def test_dependencies_point_one_way(package: str, forbidden: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    found = [
        one
        for one in imports()
        if within(one.importer, (package,)) and within(one.imported, forbidden) and not within(one.imported, allowed)
    ]

    assert not found, told(found)


def test_the_sdk_reaches_prism_through_the_api_alone() -> None:
    """Only commands may know the app's errors and settings, and only those that act on this machine the rest."""
    found = [
        one
        for one in imports()
        if within(one.importer, ("prism",)) and within(one.imported, ("app", "model_container"))
        if not within(one.importer, ACT_ON_THIS_MACHINE)
        if not (within(one.importer, ("prism.cli",)) and within(one.imported, COMMANDS_MAY_IMPORT))
        if one.imported != FILE_TYPES
    ]

    assert not found, told(found)


def test_the_sdk_and_its_commands_need_no_package_of_the_extra_server() -> None:
    """But for those that act on this machine, they import what `pip install prism-serve` brings, and so do the app's errors."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    sdk = {line.split()[0] for line in dependencies} | sys.stdlib_module_names | {"app", "prism"}
    found = [
        one
        for one in imports()
        if within(one.importer, ("prism", "app.errors")) and one.imported.split(".")[0] not in sdk
        if not one.only_for_types and not within(one.importer, ACT_ON_THIS_MACHINE)
        if (one.importer, one.imported) != FASTER_IF_THERE and one.imported != FILE_TYPES
    ]

    assert not found, told(found)


def test_the_core_needs_nothing_but_the_standard_library_and_msgspec() -> None:
    allowed = sys.stdlib_module_names | CORE_LIBRARIES | {"app", "__future__"}
    found = [
        one for one in imports() if within(one.importer, ("app.core",)) and one.imported.split(".")[0] not in allowed
    ]

    assert not found, told(found)


def test_the_gateway_and_the_sdk_never_import_a_model_library_or_an_unpickler() -> None:
    found = [
        one
        for one in imports()
        if within(one.importer, ("app", "prism"))
        and within(one.imported, MODEL_LIBRARIES)
        and (one.importer, one.imported) != (PICKLES, "pickle")
    ]

    assert not found, told(found)
    used = {node.attr for node in ast.walk(modules()[PICKLES]) if isinstance(node, ast.Attribute)}
    assert not used & {"load", "loads", "Unpickler", "find_class"}


def test_the_request_road_touches_neither_docker_nor_sql() -> None:
    found = [
        one for one in imports() if within(one.importer, ("app.dispatch",)) and within(one.imported, SLOW_LIBRARIES)
    ]

    assert not found, told(found)


def test_nothing_but_the_settings_reads_the_environment() -> None:
    readers = {
        f"{name} (line {line})"
        for name, tree in modules().items()
        if name not in READS_ENVIRONMENT and not within(name, ("prism.cli",))
        for line in environment_uses(tree)
    }

    assert not readers


def environment_uses(tree: ast.Module) -> Iterator[int]:
    """Lines that read it; to set a variable for a library (`os.environ[name] = …`) is not to read one."""
    written = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if id(node) in written:
            continue
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.environb"):
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in ("environ", "getenv", "environb"))


def test_every_setting_has_a_sentence_and_the_page_of_settings_is_current() -> None:
    assert all((field.description or "").endswith(".") for field in Settings.model_fields.values())
    assert settings_page.PAGE.read_text() == settings_page.page(), "run: .venv/bin/python scripts/settings_page.py"


def test_no_module_is_named_utils_helpers_or_common() -> None:
    drawers = {name for name in modules() if name.split(".")[-1] in ("utils", "helpers", "common", "misc")}

    assert not drawers


def test_no_test_module_is_a_library() -> None:
    """What several test modules need lies in a lab beside them."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(syntax_tree(path.read_text(), str(path))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                assert not [name for name in imported if re.search(r"^tests\..*\btest_\w+$", name)], path
