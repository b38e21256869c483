"""Every place in the source that starts a program, found by reading it: none may hand on the server's environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from app.artifact.python_source import syntax_tree
from tests.unit.imports_lab import modules, within

MAKER = "app.core.child_environment.child_environment"
SPAWNS = {
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")),
    *("subprocess.getoutput", "subprocess.getstatusoutput"),
    *(f"asyncio.{name}" for name in ("create_subprocess_exec", "create_subprocess_shell")),
    *(f"asyncio.subprocess.{name}" for name in ("create_subprocess_exec", "create_subprocess_shell")),
    *(f"os.{name}" for name in ("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp", "startfile")),
    *(f"os.exec{kind}" for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"os.spawn{kind}" for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *("pty.fork", "pty.spawn", "anyio.run_process", "anyio.open_process"),
    *("concurrent.futures.ProcessPoolExecutor", "concurrent.futures.process.ProcessPoolExecutor"),
}
METHODS = {"subprocess_exec", "subprocess_shell"}
"""Methods of event loops that start a program."""
WHOLE_MODULES = ("multiprocessing", "pexpect")
"""Whatever is used of these starts programs, with the environment of who asks."""

WITHOUT = {
    ("app.serve", "os.execv"): "the server itself, begun anew",
    (
        "app.share.parent_guard",
        "subprocess.Popen",
    ): "in a child already: its environment, made by the server, is the command's",
    ("prism.cli.local_server", "subprocess.Popen"): "the server itself, which is set up by variables",
    ("prism.cli.server", "os.execve"): "the server itself, which is set up by variables",
    ("prism.cli.editor", "subprocess.run"): "a program of the user's own, without what is PRISM's",
    ("prism.cli.develop", "subprocess.run"): "a program of the user's own, without what is PRISM's",
    ("model_container.sandbox.supervisor", "os.fork"): "in a child already, and no other program",
    ("model_container.precompile", "os.fork"): "in a child already, and no other program",
    ("model_container.sandbox.escape_attempts", "os.fork"): "in a child already, behind walls, and no other program",
}


def spawns(name: str, tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """What starts a program, the line, and whether the environment comes from where it must."""
    known = names_of_imports(tree)
    annotations = {id(inner) for node in annotations_of(tree) for inner in ast.walk(node)}
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if id(node) in annotations or not isinstance(node, ast.Attribute | ast.Name):
            continue
        meant = dotted(node, known)
        if meant in SPAWNS or within(meant, WHOLE_MODULES) or meant.rpartition(".")[2] in METHODS:
            call = calls.get(id(node))
            yield meant, node.lineno, call is not None and any(is_made(word, known) for word in call.keywords)


def is_made(keyword: ast.keyword, known: dict[str, str]) -> bool:
    value = keyword.value
    return keyword.arg == "env" and isinstance(value, ast.Call) and dotted(value.func, known) == MAKER


def annotations_of(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if isinstance(found := getattr(node, field, None), ast.AST):
                yield found


def names_of_imports(tree: ast.Module) -> dict[str, str]:
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def dotted(node: ast.AST, known: dict[str, str]) -> str:
    """The whole name of what is meant; "" for what is no plain name."""
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, known)
        return f"{owner}.{node.attr}"
    return ""


def test_every_program_that_is_started_has_an_environment_made_for_it() -> None:
    found = {
        (name, meant, line): made
        for name, tree in modules().items()
        if within(name, ("app", "model_container", "prism"))
        for meant, line, made in spawns(name, tree)
    }
    inheriting = {(name, meant) for (name, meant, _), made in found.items() if not made}

    assert inheriting == set(WITHOUT)
    assert sum(found.values()) >= 6, "the search finds those that are there"


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess\nsubprocess.run(['x'])",
        "import subprocess as s\ns.Popen(['x'], env=None)",
        "from subprocess import run as go\ngo(['x'], env=dict(child_environment()))",
        "import functools, subprocess\nfunctools.partial(subprocess.run, ['x'])",
        "import asyncio\nasync def f(): await asyncio.create_subprocess_exec('x', env={})",
        "from asyncio import create_subprocess_shell\nasync def f(): await create_subprocess_shell('x')",
        "async def f(loop): await loop.subprocess_exec(None, 'x')",
        "import os\nos.execv('x', ['x'])",
        "import os\nos.posix_spawn('x', ['x'], os.environ)",
        "from os import fork\nfork()",
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor()",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        "import multiprocessing\nmultiprocessing.Process(target=print)",
        "from multiprocessing import get_context\nget_context('spawn')",
    ],
)
def test_every_way_to_start_a_program_is_detected(source: str) -> None:
    found = list(spawns("x", syntax_tree(source, "x")))

    assert found
    assert not any(made for _, _, made in found)


def test_programs_with_an_environment_from_the_allow_list_pass() -> None:
    source = f"import subprocess\nfrom {MAKER.rpartition('.')[0]} import child_environment as made\n"
    source += "subprocess.run(['x'], env=made())\ndef f(p: subprocess.Popen[bytes]) -> None: ..."

    assert [made for _, _, made in spawns("x", syntax_tree(source, "x"))] == [True]
