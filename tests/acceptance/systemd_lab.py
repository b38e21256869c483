"""A systemd of a test's own, in a mount namespace in which it believes that the machine was started by systemd."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.acceptance.server import wait_for
from tests.conftest import SYSTEMD

HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
START = f"""
mount --make-rprivate / || exit 1
test -d /run/systemd/system || {{ mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system; }} || exit 1
for group in $GROUPS_OF_TEST; do echo $$ > $group/cgroup.procs || exit 1; done
exec {SYSTEMD} --user --log-target=console
"""


class OwnSystemd:
    """folder: for its sockets, its units and its log."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "systemd.log"
        self.environ = {"XDG_RUNTIME_DIR": str(folder / "run"), "XDG_CONFIG_HOME": str(folder / "config")}
        (folder / "run").mkdir(mode=0o700)
        self._groups = [str(group) for group in own_groups(f"prism-test-{os.getpid()}")]
        environ = {**os.environ, **self.environ, "GROUPS_OF_TEST": " ".join(self._groups)}
        with self.log.open("wb") as log:
            command = ["unshare", "--mount", "sh", "-c", START]
            self._process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def inside(self, *command: str) -> list[str]:
        """The command, where this systemd is the machine's."""
        return ["nsenter", f"--target={self._process.pid}", "--mount", f"--wd={Path.cwd()}", *command]

    def is_running(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        asked = self.inside("systemctl", "--user", "is-system-running")
        environ = {**os.environ, **self.environ}
        return subprocess.run(asked, env=environ, capture_output=True, text=True).stdout.strip() == "running"

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        for group in self._groups:
            for folder in sorted((each for each in Path(group).rglob("*") if each.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):
                os.rmdir(group)


def own_groups(name: str) -> Iterator[Path]:
    """Make a control group for systemd, below this process's own, wherever systemd keeps its groups."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {kind: path for _, kind, path in (line.split(":", 2) for line in lines)}
    for hierarchy in map(Path, HIERARCHIES):
        path = paths.get("name=systemd" if hierarchy.name == "systemd" else "", "/")
        if (hierarchy / "cgroup.procs").exists():
            group = hierarchy / path.lstrip("/") / name
            group.mkdir(exist_ok=True)
            yield group


@contextlib.contextmanager
def own_systemd(folder: Path) -> Iterator[OwnSystemd]:
    systemd = OwnSystemd(folder)
    try:
        wait_for(systemd.is_running, 60, "the start of systemd")
        yield systemd
    finally:
        systemd.end()
