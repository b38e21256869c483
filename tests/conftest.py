"""What a machine may lack: tests that need it are skipped, and the run ends with what to install.

`--all` (or PRISM_TEST_ALL=1) refuses to skip: what is missing is then an error, and so is any other skip.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import socket
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from xdist.scheduler import LoadScopeScheduling

from app.config.loading import load_settings
from app.core.model import Limits
from app.runtime.packages.index import machine_index
from app.runtime.process.cgroups import Cgroups, remove

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
for name in ONE_THREAD:
    # Before NumPy is imported: on small models a thread for each core spends most of the CPU on waiting for the others,
    # of which tests at the same time leave none. Replicas get nothing of this: PRISM says how many threads each has.
    os.environ.setdefault(name, "1")

SKIPPED = pytest.StashKey[dict[str, int]]()
IMAGES = pytest.StashKey[frozenset[str]]()
USED_DOCKER = pytest.StashKey[bool]()
NOT_SKIPPED = "not skipped, because of --all: "


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


CHROMIUM = ("chromium", "google-chrome", "chromium-browser")


def chromium() -> str | None:
    """The machine's own Chromium, or Chrome."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


def headless_chromium() -> str | None:
    """Chromium without windows if the machine has it, for half of the CPU; otherwise `chromium()`."""
    return shutil.which("chromium-headless-shell") or chromium()


@functools.cache
def missing_browser() -> str:
    """Why tests marked `browser` cannot run here and what to do about it; "" if they can."""
    if chromium():
        return ""
    return f"no browser ({', '.join(CHROMIUM)}) is on PATH. Install one: apt-get install chromium"


SSH = {"ssh": "openssh-client", "ssh-keygen": "openssh-client", "sshd": "openssh-server"}
"""Program → the Debian package that brings it."""


def sshd() -> str | None:
    """The SSH server; it lives in a folder that is not on the PATH of an ordinary user."""
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@functools.cache
def missing_sshd() -> str:
    """Why tests marked `sshd` cannot run here and what to do about it; "" if they can."""
    found = {"ssh": shutil.which("ssh"), "ssh-keygen": shutil.which("ssh-keygen"), "sshd": sshd()}
    absent = [name for name, path in found.items() if path is None]
    if not absent:
        return ""
    packages = " ".join(sorted({SSH[name] for name in absent}))
    return f"no {', no '.join(absent)} is here. Install OpenSSH: apt-get install {packages}"


@functools.cache
def missing_node() -> str:
    """Why tests marked `node` cannot run here and what to do about it; "" if they can."""
    return "" if shutil.which("node") else "no node is on PATH. Install Node.js: apt-get install nodejs"


@functools.cache
def missing_torch() -> str:
    """Why tests marked `torch` cannot run here and what to do about it; "" if they can.

    From the usual index PyTorch comes with gigabytes for GPUs, which no test is worth.
    """
    wheel = f"torch-2.13.0+cpu-cp{sys.version_info[0]}{sys.version_info[1]}-*.whl"
    places = machine_index().variables.get("UV_FIND_LINKS", "").split(",")
    if any(place and any(Path(place).glob(wheel)) for place in places):
        return ""
    return f"no {wheel} where pip's find-links leads. Fetch it: pip download torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"


@functools.cache
def missing_cgroup() -> str:
    """Why tests marked `cgroup` cannot run here and what to do about it; "" if they can."""
    groups = Cgroups(f"tests{os.getpid()}")
    made = groups.make("probe", Limits())
    remove(made)
    mend = "Run them by: systemd-run --user --scope -p Delegate=yes ./scripts/test (as root without --user)"
    return "" if made else f"{groups.why_not}. {mend}"


SYSTEMD = Path("/lib/systemd/systemd")


@functools.cache
def missing_systemd() -> str:
    """Why tests marked `systemd` cannot run here and what to do about it; "" if they can: they start one of their own."""
    if not SYSTEMD.exists() or shutil.which("systemd-analyze") is None:
        return "no systemd is installed. Install it: apt-get install systemd"
    separate = ["unshare", "--mount", "nsenter", "--version"]
    if os.geteuid() or subprocess.run(separate, capture_output=True, check=False).returncode:
        return "no systemd of a test's own can be started here. Run the tests as root"
    return ""


def mount_command() -> list[str]:
    """What stands before `mount`."""
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


@functools.cache
def missing_tmpfs() -> str:
    """Why tests marked `tmpfs` cannot run here and what to do about it; "" if they can."""
    if sys.platform != "linux":
        return "a small disk in memory can be had on Linux alone"
    with TemporaryDirectory() as place:
        try:
            mount = [*mount_command(), "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
            subprocess.run(mount, check=True, capture_output=True)
            subprocess.run([*mount_command(), "umount", place], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return "no small disk can be mounted here. Run the tests as root, or as one who may `sudo mount`"
    return ""


NEEDS: dict[str, Callable[[], str]] = {
    "docker": missing_docker,
    "browser": missing_browser,
    "sshd": missing_sshd,
    "node": missing_node,
    "torch": missing_torch,
    "cgroup": missing_cgroup,
    "systemd": missing_systemd,
    "tmpfs": missing_tmpfs,
}
"""Marker → what is missing for tests that carry it. Another need is another row."""


def refuses_to_skip(config: pytest.Config) -> bool:
    return bool(config.getoption("--all")) or os.environ.get("PRISM_TEST_ALL", "") not in ("", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="refuse to skip: what this machine lacks is an error")


SPREAD = ("tests/integration/test_storage_faults.py",)
"""Modules whose tests take minutes each and share no fixture: any worker may run any of them."""


class ModuleScheduling(LoadScopeScheduling):
    """Gives the tests of a module to one worker, as they share its fixtures, unless the module is in SPREAD."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return nodeid if module in SPREAD else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ModuleScheduling:
    return ModuleScheduling(config, log)


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process runs a share of the tests for another, which prints the summary."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all tests are collected: it would look through ever more objects, none of which is garbage
    config.stash[SKIPPED] = defaultdict(int)
    config.stash[IMAGES] = frozenset() if is_worker(config) else images_of_ours()
    config.stash[USED_DOCKER] = False
    config.pluginmanager.register(ReportWatcher(config))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove from the Docker engine the images that appeared during the tests, unless no test used the engine."""
    if is_worker(session.config) or not session.config.stash[USED_DOCKER]:
        return
    # Models come before the environments that their images are made from.
    for image in sorted(images_of_ours() - session.config.stash[IMAGES], reverse=True):
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


def images_of_ours() -> frozenset[str]:
    if shutil.which("docker") is None:
        return frozenset()
    listed = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}"], capture_output=True, text=True, check=False
    )
    return frozenset(name for name in listed.stdout.split() if name.startswith(("prism_model_", "prism_env_")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in NEEDS.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        refuse_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole file may skip itself, e.g. by `pytest.importorskip`."""
    report = yield
    refuse_skip(report, collector.config)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if report.skipped and refuses_to_skip(config):
        report.outcome = "failed"
        report.longrepr = f"{NOT_SKIPPED}{reason_of(report)}"


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").removeprefix(NOT_SKIPPED)


class ReportWatcher:
    """Counts skips by their reasons and notes whether a test used Docker, from the reports of all workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._stash = config.stash
        self._counts = config.stash[SKIPPED]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._stash[USED_DOCKER] |= "docker" in report.keywords
        self._count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._count(report)

    def _count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        refused = report.failed and isinstance(report.longrepr, str) and report.longrepr.startswith(NOT_SKIPPED)
        if refused or (report.skipped and not hasattr(report, "wasxfail")):
            self._counts[reason_of(report)] += 1


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


@pytest.fixture
def closed_port() -> Iterator[int]:
    """At which nobody listens, nor can anybody begin to, for as long as the test lasts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
