"""Makes the targets that this machine offers, the preferred one first."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from app.core.model import TargetName
from app.errors import InvalidSetting
from app.runtime.docker.engine import engine_answers
from app.runtime.docker.target import DockerTarget
from app.runtime.process.target import ProcessTarget
from app.runtime.target import Target
from app.settings import Settings


def home_label(settings: Settings) -> str:
    """Return the label of this PRISM among others on the same machine or engine. Only replicas with it are ours."""
    return hashlib.sha256(str(settings.registry_path).encode()).hexdigest()[:12]


def socket_folder(settings: Settings) -> Path:
    """Return a short private folder: the path of a Unix socket may have 107 bytes."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"prism-{os.getuid()}-{home_label(settings)}"


def available_targets(settings: Settings) -> Mapping[TargetName, Target]:
    """Return the targets by name; the first is for models that ask for none.

    Raises InvalidSetting where the setting is docker and no engine answers.
    """
    process = ProcessTarget(
        environments=settings.environments,
        run_folder=settings.run_folder,
        sockets=socket_folder(settings),
        build_timeout_seconds=settings.build_timeout_seconds,
        home=home_label(settings),
    )
    if settings.target == "process":
        return {TargetName.PROCESS: process}
    if not engine_answers():
        if settings.target == "docker":
            raise InvalidSetting(
                "PRISM_TARGET=docker, but no Docker engine answers.",
                hint="Start Docker, or set PRISM_TARGET=process, which needs nothing.",
            )
        return {TargetName.PROCESS: process}
    docker = DockerTarget(
        home=home_label(settings),
        run_folder=settings.run_folder,
        base_image=settings.base_image,
        build_timeout_seconds=settings.build_timeout_seconds,
    )
    return {TargetName.DOCKER: docker, TargetName.PROCESS: process}
