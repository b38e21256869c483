"""The contract of a place where replicas run, kept by `process/`, `docker/` and the tests' fake."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from app.core.environment import Lock
from app.core.model import Limits, ModelVersion, Replica, Variant
from app.runtime.logs.reader import LogLine

Log = Callable[[str], None]
"""A function that takes one line of a build log, without its line end; called from the event loop's thread only."""


_FROM_OUTSIDE = re.compile(r"killed by signal (9|15)\b|gone; its exit code is not known|its container is gone")


class ReplicaState(Struct, frozen=True):
    """The state of a replica by the operating system or the engine, without asking the model.

    running: it exists and has not exited. frozen: it exists but is stopped or paused (SIGSTOP, docker pause).
    detail: for a person, e.g. "out of memory, limit 2048 MiB", "exited with code 3". out_of_memory: why it ended.
    rss_bytes, cpu_seconds: those of all its processes, the latter since they started; 0 where they cannot be seen.
    """

    running: bool
    frozen: bool = False
    detail: str = ""
    rss_bytes: int = 0
    cpu_seconds: float = 0.0
    out_of_memory: bool = False

    @property
    def by_itself(self) -> bool:
        """Whether a replica that does not run came to its end by itself or past one of its limits.

        As far as can be seen, nobody outside killed, removed or froze it then.
        """
        return not self.frozen and _FROM_OUTSIDE.match(self.detail) is None


class StoredImage(Struct, frozen=True):
    """One image of PRISM's on a target.

    name: "" for one that lost its name to a newer build. size_bytes: without the environment that it is built upon.
    lock_hash: of that environment, or of its own. model_id: "" for an environment. is_own: whether this PRISM surely
    built it, not another one with a home of its own.
    """

    id: str
    name: str
    size_bytes: int
    lock_hash: str
    model_id: str = ""
    is_own: bool = False
    age_seconds: float = 0.0


class Target(Protocol):
    """A place where replicas run. All paths are absolute. Methods raise errors of `app.errors` and nothing else.

    name: the one under which it is registered, and which records hold. replica_noun: what a replica of it is, in one
    word for a person, such as "container". platform: what packages are resolved for, as `Resolve` takes it; None for
    this machine. offers_gpus: whether a model may ask for GPUs.
    """

    name: str
    replica_noun: str
    platform: str | None
    offers_gpus: bool

    def require_available(self) -> None:
        """Raise TargetUnavailable if this machine lacks what the target needs. Blocks, for seconds at worst."""
        ...

    async def pythons(self) -> tuple[str, ...]:
        """Return the Python minors for which an environment can be built here, best first, e.g. ("3.11", "3.12")."""
        ...

    async def build_environment(self, lock: Lock, log: Log) -> None:
        """Make the environment of `lock` exist. Idempotent; concurrent calls for one lock build it once.

        Raises BuildFailed with the installer's telling lines.
        """
        ...

    async def build_model(self, model: ModelVersion, folder: Path, log: Log, variant: Variant | None = None) -> str:
        """Make a variant, else model.variant, startable and return its image's name, "" where there are no images."""
        ...

    async def is_built(self, model: ModelVersion, variant: Variant) -> bool:
        """Return whether all that was built for this variant is still there; somebody may have removed it."""
        ...

    async def start(self, model: ModelVersion, folder: Path, limits: Limits, variant: Variant | None = None) -> Replica:
        """Start one replica of `variant`, else of model.variant. Raises StartFailed.

        Returns as soon as the replica exists, before the model is loaded.
        """
        ...

    async def state(self, replica: Replica) -> ReplicaState: ...

    async def stop(self, replica: Replica, grace_seconds: float) -> None:
        """Ask a replica to end, then end it; afterwards nothing of it is left running. One already gone is fine."""
        ...

    def logs(self, replica: Replica, folder: Path, tail: int, follow: bool, after: str = "") -> AsyncIterator[LogLine]:
        """Yield lines of a replica's output: the last `tail`, then live ones if `follow`, until it ends.

        after: the id of a line, also of one by an earlier replica of the model; reading then goes on right behind it.
        Gaps come only with `after` or `follow`.
        """
        ...

    async def remove(self, model: ModelVersion, environment_in_use: bool) -> None:
        """Remove what `build_model` made of the original, and its environment unless another model uses it.

        Fine if gone.
        """
        ...

    async def remove_variant(self, model: ModelVersion, variant: Variant, environment_in_use: bool) -> None:
        """Remove what `build_model` made of another variant, and its environment likewise; before `remove`."""
        ...

    def describe_removal(self, model: ModelVersion, replicas: Sequence[Replica]) -> list[str]:
        """Describe to a person what is removed with a model, a line each: its replicas, and its image if it has one."""
        ...

    async def images(self) -> tuple[StoredImage, ...]:
        """Return the images of PRISM's that are here; () where there are no images. Raises TargetUnavailable."""
        ...

    async def remove_image(self, id: str) -> bool:
        """Remove an image unless a replica or anything else uses it. Returns whether it was removed."""
        ...

    async def replicas(self) -> tuple[Replica, ...]:
        """Return every replica of this PRISM (same home) that runs here, known to the registry or not.

        Recognised by our own label only; a replica whose label cannot be read is not ours.
        """
        ...


class Targets(Struct, frozen=True):
    """The targets of a gateway by name, the preferred one first.

    known: all that are registered. offered: those that this machine offers; the first is for models that ask for none.
    """

    known: Mapping[str, Target]
    offered: Mapping[str, Target]
