"""What a machine lacks is skipped and said; `--all` refuses to skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_ENGINE = "no Docker engine answers. Install and start one: https://docs.docker.com/engine/install/"
TESTS = """
import pytest

@pytest.mark.docker
def test_that_needs_an_engine() -> None: ...

@pytest.mark.xfail(strict=True)
def test_that_is_known_to_fail() -> None:
    raise AssertionError

def test_that_needs_nothing() -> None: ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with our skipping rules, our pytest settings and three tests."""
    for name in ("pyproject.toml", "tests/conftest.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "tests" / "test_needs.py").write_text(TESTS)
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest on a machine where nothing listens at the Docker engine's socket."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PRISM_", "DOCKER_"))},
        "DOCKER_HOST": f"unix://{project}/none.sock",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)


def test_a_missing_engine_skips_its_tests_and_says_what_to_install(project: Path) -> None:
    result = run(project)

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"1 test: {NO_ENGINE}" in result.stdout
    assert "1 passed, 1 skipped, 1 xfailed" in result.stdout


def test_with_all_a_missing_engine_fails_the_run_and_is_named(project: Path) -> None:
    result = run(project, "--all")

    assert result.returncode == 1
    assert f"not skipped, because of --all: {NO_ENGINE}" in result.stdout
    assert "1 passed, 1 xfailed, 1 error" in result.stdout


def test_with_all_a_file_that_skips_itself_fails_the_run(project: Path) -> None:
    (project / "tests" / "test_itself.py").write_text('import pytest\n\npytest.importorskip("no_such_library")\n')

    result = run(project, "--all")

    assert result.returncode != 0
    assert "not skipped, because of --all: could not import 'no_such_library'" in result.stdout
