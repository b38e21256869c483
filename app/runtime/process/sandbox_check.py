"""Tries how far the process target closes its replicas on this machine, for `prism doctor`."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from app.core.child_environment import child_environment
from app.runtime.interpreter import PACKAGE, WITHOUT_SITE, isolated, own_interpreter
from model_container.contract.config import Confinement

SECONDS = 30


FULL = Confinement(namespaces=True, readable=[], memory_mb=512, pids=64, file_mb=16)
AREAS = ("network", "files", "processes", "syscalls", "memory")
MEMORY_MB, HELD_MB, HELD_SECONDS = 96, 120, 1.0
"""The memory that a replica may use, that it tries to hold, and for how long: some looks of its supervisor."""


class Lent(NamedTuple):
    """A control group for the survey's processes: fields of Confinement, and the descriptors they name."""

    fields: Mapping[str, Any] = MappingProxyType({})
    descriptors: tuple[int, ...] = ()


NONE = Lent()


def probe_sandbox(confinement: Confinement | None = FULL, group: Lent = NONE) -> dict[str, Any]:
    """Start Pythons in the sandbox of a replica, and let them try what a model must not do. Blocks about 2 s.

    Returns {"network": True, "files": True, "processes": True, "syscalls": True, "memory": True, "details": {…}}: True
    where every attempt was refused; False for all where there is no sandbox. details: "refused" and "succeeded", by
    area, "report" of confine() and "error" if the attempts could not be made. None tries without a sandbox, so that one
    can see that the attempts are real.
    """
    if sys.platform != "linux":
        return _verdict({"report": {"missing": [f"sandbox: not on {sys.platform}"]}}, "")
    with tempfile.TemporaryDirectory(prefix="prism-sandbox-") as name, ExitStack() as stack:
        folder = Path(name)
        work = folder / "work"
        work.mkdir(mode=0o700)
        targets = stack.enter_context(_targets(folder / "gateway"))
        sandbox = replace(confinement, **group.fields) if confinement else None
        answer, error = _try(_complete(sandbox, work), {"targets": targets}, group, work)
        answer.setdefault("attempts", {})["memory"] = {
            kind: _held(_complete(sandbox, work), kind, group, work) for kind in answer.get("kinds_of_memory", ())
        }
        return _verdict(answer, error)


def _held(confinement: Confinement | None, kind: str, group: Lent, work: Path) -> str:
    """Return why that memory could not be held; "" if it could. What goes over its limit is ended, and says nothing."""
    if confinement:
        confinement = replace(confinement, memory_mb=MEMORY_MB, file_mb=MEMORY_MB)
    question = {"memory": kind, "size_mb": HELD_MB, "hold_seconds": HELD_SECONDS if confinement else 0}
    answer, error = _try(confinement, question, group, work)
    outcome: str = answer.get("attempts", {}).get("memory", {}).get(kind, error)
    return outcome


def _complete(confinement: Confinement | None, work: Path) -> Confinement | None:
    """Add the paths that the attempts themselves need, if files are closed at all."""
    if confinement is None or confinement.readable is None:
        return confinement
    return replace(confinement, readable=[*confinement.readable, str(PACKAGE)], writable=[str(work)])


@contextmanager
def _targets(folder: Path) -> Iterator[dict[str, Any]]:
    """Make what the attempts aim at: real, and ours to lose."""
    folder.mkdir(mode=0o700)
    (folder / "secret").write_text("secret")
    (folder / "doomed").write_text("doomed")
    abstract = f"prism-sandbox-{secrets.token_hex(8)}"
    with ExitStack() as stack:
        tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        unix, hidden = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        for endpoint in (tcp, udp, unix, hidden):
            stack.enter_context(endpoint)
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "s"))
        hidden.bind("\0" + abstract)
        for endpoint in (tcp, unix, hidden):
            endpoint.listen()
        victim = subprocess.Popen(
            [own_interpreter(), *WITHOUT_SITE, "-c", "input()"], stdin=subprocess.PIPE, env=child_environment()
        )
        try:
            yield {
                "tcp_port": tcp.getsockname()[1],
                "udp_port": udp.getsockname()[1],
                "unix_socket": str(folder / "s"),
                "abstract_socket": abstract,
                "secret": str(folder / "secret"),
                "folder": str(folder),
                "pid": victim.pid,
            }
        finally:
            victim.kill()
            victim.communicate()


def _try(
    confinement: Confinement | None, attempts: Mapping[str, Any], group: Lent, work: Path
) -> tuple[dict[str, Any], str]:
    """Return what the attempts printed, and what went wrong if they printed nothing."""
    question = {"confinement": asdict(confinement) if confinement else None, **attempts}
    command = isolated(own_interpreter(), PACKAGE / "sandbox" / "escape_attempts.py")
    try:
        done = subprocess.run(
            command,
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=work,
            env=child_environment(own={"PATH": os.defpath}),
            start_new_session=True,
            pass_fds=group.descriptors,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {}, str(error)
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        return {}, done.stderr.strip() or f"exit code {done.returncode}"


def _verdict(answer: dict[str, Any], error: str) -> dict[str, Any]:
    outcomes: dict[str, dict[str, str]] = answer.get("attempts", {})
    details: dict[str, Any] = {
        "report": answer.get("report", {}),
        "refused": {area: {name: why for name, why in outcomes.get(area, {}).items() if why} for area in AREAS},
        "succeeded": {area: [name for name, why in outcomes.get(area, {}).items() if not why] for area in AREAS},
    }
    if error:
        details["error"] = error
    return {**{area: bool(outcomes.get(area)) and all(outcomes[area].values()) for area in AREAS}, "details": details}
