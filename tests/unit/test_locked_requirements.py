"""`scripts/locked_requirements.py` says exactly what poetry.lock says, for every machine."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from scripts import locked_requirements

ROOT = Path(__file__).parents[2]
GROUPS = [["main"], ["dev"], ["main", "dev"]]
PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows"},
}
PYTHONS = ["3.11", "3.12", "3.13"]


lock = tomllib.loads((ROOT / "poetry.lock").read_text())


def machine(platform: str, python: str) -> dict[str, str]:
    return {
        **PLATFORMS[platform],
        "python_version": python,
        "python_full_version": f"{python}.4",
        "platform_python_implementation": "CPython",
    }


def installed(groups: list[str], environment: dict[str, str]) -> dict[str, str]:
    """Name → version that an installer takes from the printed lines on a machine."""
    chosen: dict[str, str] = {}
    for line in locked_requirements.requirements(lock, groups):
        parsed = Requirement(line.split(" --hash=")[0])
        if parsed.marker is None or parsed.marker.evaluate(environment):
            assert parsed.name not in chosen, f"{parsed.name} is listed twice for {environment}"
            chosen[parsed.name] = str(parsed.specifier).removeprefix("==")
    return chosen


def locked(groups: list[str], environment: dict[str, str]) -> dict[str, str]:
    """The same from the lock itself: a package counts if any wanted group's marker holds there."""
    chosen: dict[str, str] = {}
    for package in lock["package"]:
        for group in set(groups) & set(package["groups"]):
            condition: Any = package.get("markers", "")
            condition = condition.get(group, "") if isinstance(condition, dict) else condition
            with_server = {**environment, "extra": "server"}
            if not condition or Requirement(f"x ; {condition}").marker.evaluate(with_server):  # type: ignore[union-attr]
                chosen[package["name"]] = package["version"]
    return chosen


@pytest.mark.parametrize("groups", GROUPS, ids="+".join)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_machine_gets_the_locked_packages_of_its_groups(platform: str, python: str, groups: list[str]) -> None:
    environment = machine(platform, python)

    assert installed(groups, environment) == locked(groups, environment)


def test_packages_for_windows_are_installed_only_there() -> None:
    assert "colorama" in installed(["main"], machine("windows", "3.12"))
    assert "colorama" not in installed(["main", "dev"], machine("linux", "3.12"))


def test_every_line_carries_every_hash_of_its_package() -> None:
    lines = {line.split(" ")[0]: line for line in locked_requirements.requirements(lock, ["main", "dev"])}

    for package in lock["package"]:
        line = lines[f"{package['name']}=={package['version']}"]
        assert [part.strip() for part in line.split(" --hash=")[1:]] == [file["hash"] for file in package["files"]]


def test_no_package_comes_without_a_hash() -> None:
    assert all(package["files"] for package in lock["package"])


def test_a_package_that_one_group_wants_everywhere_has_no_marker() -> None:
    package = {"groups": ["main", "dev"], "markers": {"dev": 'sys_platform == "win32"'}}

    assert locked_requirements.marker(package, ["main", "dev"]) == ""
    assert locked_requirements.marker(package, ["dev"]) == '(sys_platform == "win32")'


def test_what_an_extra_asks_for_is_installed_without_naming_the_extra() -> None:
    package = {"groups": ["main"], "markers": 'sys_platform == "win32" and extra == "server"'}
    alone = {"groups": ["main", "dev"], "markers": {"main": 'extra == "server"'}}

    assert locked_requirements.marker(package, ["main"]) == 'sys_platform == "win32" and python_version >= "3"'
    assert locked_requirements.marker(alone, ["main"]) == ""


def test_a_misspelt_group_is_named_with_those_that_exist() -> None:
    with pytest.raises(locked_requirements.UnknownGroup, match=r"no group tests; it has dev, main"):
        list(locked_requirements.requirements(lock, ["main", "tests"]))


def test_the_lock_answers_what_the_project_asks_for() -> None:
    """A dependency added to pyproject.toml without `poetry lock` would not be installed at all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["server"]]
    wanted = {Requirement(text.replace("(", "").replace(")", "")) for text in lines}
    development = set(project["tool"]["poetry"]["group"]["dev"]["dependencies"])
    pinned = installed(["main"], machine("linux", "3.11"))

    assert {one.name for one in wanted if one.name not in pinned or pinned[one.name] not in one.specifier} == set()
    assert development <= set(installed(["main", "dev"], machine("linux", "3.11")))
