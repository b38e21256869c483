"""Real compilers, real folders of packages: what is compiled, what is shared, and what a hostile package can reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.runtime.packages import bytecode
from app.runtime.packages.bytecode import compile_folder, remove_unused

SUFFIX = f".{sys.implementation.cache_tag}.pyc"
LIBRARY = {f"library/part{number}.py": f"def place():\n    return {number}\n" for number in range(4)}


@pytest.fixture(autouse=True)
def a_library_of_four_files_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "LARGE", 4)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def install(folder: Path, **sources: str) -> Path:
    """Write the library, and more modules by their names."""
    for path, text in {**LIBRARY, **{f"{name}.py": text for name, text in sources.items()}}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def compiled(folder: Path) -> dict[str, int]:
    """Return the inodes of the bytecode by the paths of the sources."""
    return {
        str(path.parent.parent.relative_to(folder) / path.name.replace(SUFFIX, ".py")): path.stat().st_ino
        for path in folder.rglob(f"*{SUFFIX}")
    }


def build(folder: Path, cache: Path) -> dict[str, int]:
    assert compile_folder(sys.executable, folder, cache, 60)
    return compiled(folder)


def test_what_one_environment_compiled_another_one_links(tmp_path: Path, cache: Path) -> None:
    first = build(install(tmp_path / "a", small="x = 1"), cache)
    second = build(install(tmp_path / "b", small="x = 2"), cache)
    assert first.keys() == second.keys() == {*LIBRARY, "small.py"}
    shared = {path for path, inode in first.items() if second[path] == inode}
    assert shared == set(LIBRARY), "another content of a small package takes no part in the large one"


def test_bytecode_from_elsewhere_is_imported_and_names_the_file_where_it_is(tmp_path: Path, cache: Path) -> None:
    build(install(tmp_path / "a"), cache)
    folder = install(tmp_path / "b")
    build(folder, cache)
    os.utime(folder / "library" / "part3.py", (1, 1))  # the installer's times are its own matter
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import library.part3 as m; print(m.place.__code__.co_filename)"
    )
    command = [sys.executable, "-B", "-v", "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(folder / "library" / "part3.py")
    assert f"code object from '{folder / 'library' / '__pycache__' / f'part3{SUFFIX}'}'" in done.stderr


def test_what_cannot_be_compiled_or_placed_is_left_out(tmp_path: Path, cache: Path) -> None:
    folder = install(tmp_path / "a", template="def {{ name }}(): ...", nul="x = '\0'", deep="x = " + "(" * 5000)
    (folder / "library" / "__pycache__").write_text("no folder")
    (folder / "brought").mkdir()
    (folder / "brought" / "module.py").write_text("x = 1")
    (folder / "brought" / "__pycache__").mkdir()
    (folder / "brought" / "__pycache__" / f"module{SUFFIX}").write_bytes(b"its own")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text("x = 1")
    (folder / "link.py").symlink_to("/etc/passwd")
    Path(os.fsdecode(os.fsencode(folder / "name-") + b"\xff.py")).write_text("x = 1")
    found = build(folder, cache)
    assert {path for path in found if not path.startswith("name-")} == {"brought/module.py"}
    assert len(found) == 2
    assert (folder / "brought" / "__pycache__" / f"module{SUFFIX}").read_bytes() == b"its own"


def test_bytecode_goes_with_the_last_environment_that_links_it(tmp_path: Path, cache: Path) -> None:
    build(install(tmp_path / "a", small="x = 1"), cache)
    kept = build(install(tmp_path / "b", small="x = 2"), cache)
    (cache / "unfinished-now").mkdir()
    (cache / "unfinished-killed").mkdir()
    os.utime(cache / "unfinished-killed", (time.time() - 4000,) * 2)
    shutil.rmtree(tmp_path / "a")
    remove_unused(cache)
    assert {file.stat().st_ino for file in cache.rglob("*.pyc")} == set(kept.values())
    assert {entry.name for entry in cache.glob("unfinished-*")} == {"unfinished-now"}
    shutil.rmtree(tmp_path / "b")
    remove_unused(cache)
    assert [entry.name for entry in cache.iterdir()] == ["unfinished-now"]


def test_a_part_that_is_removed_before_it_is_linked_is_compiled_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removals = iter([True, False])
    link = bytecode._link

    def link_late(entry: Path, folder: Path, part: dict[str, bytes]) -> bool:
        if next(removals):
            shutil.rmtree(entry)
        return link(entry, folder, part)

    monkeypatch.setattr(bytecode, "_link", link_late)
    assert build(install(tmp_path / "a"), cache).keys() == LIBRARY.keys()


def test_a_compiler_that_does_not_end_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    assert not compile_folder(sys.executable, install(tmp_path / "a"), cache, 0.001)
    assert list(cache.iterdir()) == []
