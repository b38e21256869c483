"""Reads what a container printed, line by line: from the engine, or from what was kept once the container is gone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from app.core.model import Replica
from app.errors import NotFound
from app.runtime.docker.container import HOME_LABEL, MODEL_LABEL
from app.runtime.docker.engine import Engine
from app.runtime.logs.files import log_path
from app.runtime.logs.kept import ContainerPlace, Stamped, TimestampedLines, behind, kept_log, place_in, short
from app.runtime.logs.reader import LogLine

if TYPE_CHECKING:
    from docker import DockerClient


class ContainerLogs:
    """The logs of containers. home: label of those that may be read."""

    def __init__(self, engine: Engine, home: str) -> None:
        self._engine = engine
        self._home = home

    async def lines(
        self, replica: Replica, folder: Path, tail: int, follow: bool, after: str
    ) -> AsyncIterator[LogLine]:
        """Yield lines as `PredictTarget.logs` says."""
        place = ContainerPlace.parse(after)
        if after and (place is None or place.container != short(replica.id)):
            async for line in self._earlier_log(replica, folder, follow, after):
                after = line.id
                yield line
            place = place_in(log_path(folder), replica.id, after)
        async for line in self._log_of(replica.id, folder, tail, follow, place):
            yield line

    async def _earlier_log(self, replica: Replica, folder: Path, follow: bool, after: str) -> AsyncIterator[LogLine]:
        """Yield what came behind a place in the log of an earlier container, which may be about to end."""
        place = ContainerPlace.parse(after)
        try:
            if place is not None and await self._is_of(place.container, replica.model_id):
                async for line in self._log_of(place.container, folder, 0, follow, place):
                    yield line
                return
        except NotFound:
            pass
        async for line in kept_log(log_path(folder), 0, lambda: False, after):
            yield line

    async def _is_of(self, container: str, model_id: str) -> bool:
        """Return whether a container is that model's: a place comes from outside, and could name any of this engine."""
        inspection = await self._engine.ask(lambda client: client.api.inspect_container(container))
        labels = inspection["Config"]["Labels"] or {}
        return bool(labels.get(HOME_LABEL) == self._home and labels.get(MODEL_LABEL) == model_id)

    async def _log_of(
        self, container: str, folder: Path, tail: int, follow: bool, place: ContainerPlace | None
    ) -> AsyncIterator[LogLine]:
        """Yield what is there, what comes, and what the engine had not sent by the end; else what was kept of it."""
        is_first = place is None
        try:
            for is_live in (False, True, False) if follow else (False,):
                stamped = self._stamped(container, place, max(1, tail) if follow else tail, is_live)
                async for line in behind(place, stamped):
                    place = ContainerPlace.parse(line.id)
                    if tail or not is_first:
                        yield line
                if is_first and follow:
                    place = place or ContainerPlace(short(container))
                    yield LogLine("", str(place), "place")
                is_first = False
        except NotFound:
            async for line in kept_log(log_path(folder), tail, lambda: False, str(place or "")):
                yield line

    async def _stamped(
        self, container: str, place: ContainerPlace | None, tail: int, is_live: bool
    ) -> AsyncIterator[Stamped]:
        def begin(client: DockerClient) -> Any:
            if place is None:
                return client.api.logs(container, stream=True, follow=is_live, timestamps=True, tail=tail)
            since = place.since if place.stamp else None
            return client.api.logs(container, stream=True, follow=is_live, timestamps=True, since=since)

        lines = TimestampedLines(container)
        async with contextlib.aclosing(cast(Any, self._engine.stream(begin))) as messages:
            async for message in messages:
                for line in lines.add(message):
                    yield line
        if not is_live:
            for line in lines.rest():
                yield line
