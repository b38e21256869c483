"""The targets that PRISM knows, and which of them this machine offers."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.errors import InvalidSetting, TargetUnavailable
from app.runtime.target import Target, Targets
from app.settings import Settings


def home_label(settings: Settings) -> str:
    """Return the label of this PRISM among others on the same machine or engine. Only replicas with it are ours."""
    return hashlib.sha256(str(settings.registry_path).encode()).hexdigest()[:12]


def socket_folder(settings: Settings) -> Path:
    """Return a short private folder: the path of a Unix socket may have 107 bytes."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"prism-{os.getuid()}-{home_label(settings)}"


def docker_target(settings: Settings) -> Target:
    from app.runtime.docker.target import DockerTarget

    return DockerTarget(
        home=home_label(settings),
        run_folder=settings.run_folder,
        base_image=settings.base_image,
        build_timeout_seconds=settings.build_timeout_seconds,
    )


def process_target(settings: Settings) -> Target:
    from app.runtime.process.target import ProcessTarget

    return ProcessTarget(
        environments=settings.environments,
        run_folder=settings.run_folder,
        sockets=socket_folder(settings),
        build_timeout_seconds=settings.build_timeout_seconds,
        home=home_label(settings),
    )


TARGETS: dict[str, Callable[[Settings], Target]] = {"docker": docker_target, "process": process_target}
"""Every target by name, the preferred one first, with what makes it, also on a machine that cannot offer it."""


def allowed_targets(settings: Settings) -> tuple[str, ...]:
    """Return the names of the targets that PRISM_TARGET allows: all for `auto`, else the named one and those after it.

    Raises InvalidSetting for an unknown name.
    """
    names = tuple(TARGETS)
    if settings.target == "auto":
        return names
    if settings.target not in names:
        *first, last = map(repr, ("auto", *names))
        raise InvalidSetting(
            f"PRISM_TARGET={settings.target!r}: Input should be {', '.join(first)} or {last}.",
            hint="Correct PRISM_TARGET, or unset it for the default.",
            setting="PRISM_TARGET",
        )
    return names[names.index(settings.target) :]


def available_targets(settings: Settings) -> Targets:
    """Make every target, and find out which of those that PRISM_TARGET allows this machine offers.

    Raises InvalidSetting where that setting names a target that is unknown or not available.
    """
    known = {name: make(settings) for name, make in TARGETS.items()}
    offered = {}
    for name in allowed_targets(settings):
        try:
            known[name].require_available()
        except TargetUnavailable as error:
            if name == settings.target:
                reason = error.detail[:1].lower() + error.detail[1:]
                raise InvalidSetting(f"PRISM_TARGET={name}, but {reason}", hint=error.hint) from error
            continue
        offered[name] = known[name]
    return Targets(known, offered)
