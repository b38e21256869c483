"""The unit of systemd that runs this machine's server, and how systemd is asked about it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.child_environment import LANGUAGE, USER, USER_FOLDERS, child_environment
from app.errors import Conflict, InvalidSetting, NotFound
from prism.cli import local_server

NAME = "prism.service"
WRITTEN = "# Written by `prism service install`; `prism service uninstall` removes it.\n"
NEEDED = (*USER, *LANGUAGE, *USER_FOLDERS, "DBUS_SESSION_BUS_ADDRESS")
"""What systemctl gets of this shell's variables: by the last ones it finds the user's own systemd."""
BOOTED = Path("/run/systemd/system")
"""The folder is there while systemd runs the system: sd_booted(3)."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Manager:
    """The systemd that runs the unit: the system's, or the user's own."""

    is_system: bool

    @property
    def unit(self) -> Path:
        if self.is_system:
            return Path("/etc/systemd/system") / NAME
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user" / NAME

    def command(self, *arguments: str) -> str:
        """Return a command of systemctl as one types it."""
        return " ".join(("systemctl", *(() if self.is_system else ("--user",)), *arguments))

    @property
    def journal(self) -> str:
        return f"journalctl {'-u' if self.is_system else '--user-unit'} {NAME.removesuffix('.service')} -n 50"

    def control(self, *arguments: str) -> str:
        """Run systemctl and return its output. Raises Conflict with what it said."""
        done = self._run(*arguments)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:300]
            raise Conflict(f"`{self.command(*arguments)}` failed: {said}", hint=self._advice)
        return done.stdout

    def start(self) -> None:
        """Start the unit, also one that failed too often, or waits for its next try. Raises Conflict."""
        self.stop()
        self._run("reset-failed", NAME)
        self.control("start", NAME)

    def stop(self) -> None:
        """Stop the unit, if it is known."""
        self._run("stop", NAME)

    def properties(self, *names: str) -> dict[str, str]:
        """Return properties of the unit, e.g. ActiveState; what systemd does not know of is ""."""
        told = self._run("show", NAME, "--property", ",".join(names)).stdout
        found = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        return {name: found.get(name, "") for name in names}

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        scope = () if self.is_system else ("--user",)
        command = ["systemctl", *scope, *arguments]
        return subprocess.run(command, env=child_environment(NEEDED), capture_output=True, text=True, check=False)

    @property
    def _advice(self) -> str:
        if self.is_system:
            return f"See `{self.journal}`."
        return f"See `{self.journal}`. If your own systemd does not run here, log in directly, not by su or sudo."


def manager(own: bool) -> Manager:
    """Return the systemd to use: the system's for root, else the user's own. Raises NotFound where there is none."""
    if not (shutil.which("systemctl") and BOOTED.is_dir()):
        raise NotFound(
            "This machine is not run by systemd, so it cannot keep PRISM as a service.",
            hint="`prism run` starts the server in the background; for a supervisor of yours, `prism run --foreground`.",
        )
    return Manager(is_system=os.geteuid() == 0 and not own)


def unit_text(home: Path, config: Path | None, is_system: bool) -> str:
    """Return the unit. A system's unit runs as the owner of the home folder. Raises InvalidSetting for an odd path.

    KillMode: a server that crashed leaves its models running, and adopts them when it is started again. Delegate: the
    limits of models are control groups below that of the unit.
    """
    return WRITTEN + "\n\n".join("\n".join(part) for part in _parts(home, config, is_system)) + "\n"


def _parts(home: Path, config: Path | None, is_system: bool) -> Iterator[list[str]]:
    after = ["Wants=network-online.target", "After=network-online.target docker.service"] if is_system else []
    yield [
        "[Unit]",
        "Description=PRISM: model files as APIs",
        *after,
        "StartLimitIntervalSec=60",
        "StartLimitBurst=5",
    ]
    owner = _owner(home) if is_system else ""
    yield [
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(_quoted(word).replace('$', '$$') for word in local_server.command())}",
        f"WorkingDirectory={_path(local_server.code_folder())}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in _variables(home, config).items()),
        f"EnvironmentFile=-{_path(environment_file(home))}",
        *([f"User={owner}"] if owner else []),
        "UMask=0077",
        "Restart=on-failure",
        "RestartSec=2",
        "KillMode=process",
        "TimeoutStopSec=120",
        "Delegate=yes",
    ]
    yield ["[Install]", f"WantedBy={'multi-user.target' if is_system else 'default.target'}"]


def environment_file(home: Path) -> Path:
    """Return the file of variables for the service alone, which need not exist."""
    return home / "service.env"


def _variables(home: Path, config: Path | None) -> dict[str, str]:
    """Return what of this shell reaches the service: where its settings are, and where programs are looked for."""
    own = {"PRISM_HOME": str(home), **({"PRISM_CONFIG": str(config)} if config else {}), "PYTHONUNBUFFERED": "1"}
    return {**own, "PATH": os.environ.get("PATH", os.defpath)}


def _owner(home: Path) -> str:
    """Return the user that owns the home folder, or the nearest folder above it; "" for root."""
    folder = next(folder for folder in (home, *home.parents) if folder.exists())
    user = folder.stat().st_uid
    return pwd.getpwuid(user).pw_name if user else ""


def _quoted(word: str) -> str:
    """Write a word of a unit: systemd.syntax(7)."""
    _refuse_control_characters(word)
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _path(path: Path) -> str:
    """Write a path that has a line of the unit to itself."""
    _refuse_control_characters(str(path))
    return str(path).replace("%", "%%")


def _refuse_control_characters(text: str) -> None:
    if CONTROL.search(text):
        raise InvalidSetting(
            f"{text!r} cannot be part of a unit of systemd.", hint="Use a path without such characters."
        )
