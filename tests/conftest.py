"""What a machine may lack: tests that need it are skipped, and the run ends with what to install.

`--all` (or PRISM_TEST_ALL=1) refuses to skip: what is missing is then an error, and so is any other skip.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

from app.settings import load_settings

SKIPPED = pytest.StashKey[dict[str, int]]()


@functools.cache
def missing_docker() -> str:
    """Why tests marked `docker` cannot run here and what to do about it; "" if they can."""
    image = load_settings().base_image.format(version="{}.{}".format(*sys.version_info[:2]))
    with warnings.catch_warnings():
        # The docker library forgets to close its socket when nothing listens at the other end.
        warnings.simplefilter("ignore", ResourceWarning)
        missing = ask_engine_for(image)
        gc.collect()
    return missing


def ask_engine_for(image: str) -> str:
    try:
        client = docker.from_env(timeout=10)
    except DockerException:
        return "no Docker engine answers. Install and start one: https://docs.docker.com/engine/install/"
    try:
        client.images.get(image)
    except ImageNotFound:
        return f"the Docker engine has no image {image}. Fetch it: docker pull {image}"
    except DockerException as error:
        return f"the Docker engine did not answer a question about {image}: {error}"
    finally:
        client.close()
    return ""


NEEDS: dict[str, Callable[[], str]] = {"docker": missing_docker}
"""Marker → what is missing for tests that carry it. Another need is another row."""


def refuses_to_skip(config: pytest.Config) -> bool:
    return bool(config.getoption("--all")) or os.environ.get("PRISM_TEST_ALL", "") not in ("", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="refuse to skip: what this machine lacks is an error")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPPED] = defaultdict(int)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in NEEDS.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        note_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole file may skip itself, e.g. by `pytest.importorskip`."""
    report = yield
    note_skip(report, collector.config)
    return report


def note_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if not report.skipped:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    config.stash[SKIPPED][reason] += 1
    if refuses_to_skip(config):
        report.outcome = "failed"
        report.longrepr = f"not skipped, because of --all: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = config.stash[SKIPPED]
    if not skipped:
        return
    refused = refuses_to_skip(config)
    terminalreporter.section("missing on this machine, and not skipped" if refused else "skipped on this machine")
    for reason, count in sorted(skipped.items(), key=lambda entry: -entry[1]):
        terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")
    if not refused:
        terminalreporter.line("Install what is missing, or run ./scripts/test --all to have it count as an error.")
