"""The versions that an entry of the models folder has: which is the newest, and what becomes of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog
from msgspec import structs

from app.core.model import Artifact, ModelVersion, Status
from app.core.route_table import is_serving
from app.lifecycle.deployments import Deployments
from app.lifecycle.intake.receive import discard

log = structlog.get_logger(__name__)

EARLIER_KEPT: Final = 1
"""How many earlier versions of an entry stay, stopped, beside the one that serves; without a bound, each change would
leave one.
"""


class EntryVersions:
    """The versions of each entry, by the entry's name."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._state = deployments.state

    async def clear_up(self, name: str) -> None:
        """Delete the versions that the serving one has made superfluous."""
        versions = self.of(name)
        newest, earlier = (versions[-1], versions[:-1]) if versions else (None, [])
        if newest is None or self._deployments.busy(newest.model_id):
            return
        if not is_serving(self._state.deployment(newest.model_id)):
            return
        failed = [model for model in earlier if self._state.deployment(model.model_id).status is Status.FAILED]
        stopped = [
            model for model in earlier if model not in failed and not is_serving(self._state.deployment(model.model_id))
        ]
        for model in (*failed, *stopped[: max(0, len(stopped) - EARLIER_KEPT)]):
            if not self._deployments.busy(model.model_id):
                await self._deployments.delete(model)

    async def takes_number(self, model: ModelVersion, artifact: Artifact, place: Path) -> bool:
        """Return whether only the number of replicas is new; if so, the present version takes it up.

        artifact, place: the copy of the entry as it is now. Raises BadInput for an invalid number.
        """
        if model.spec.artifact.rest_sha256 != artifact.rest_sha256:
            return False
        try:
            config = await self._deployments.pipeline.readers.read_config(place)
        except BaseException:
            await discard(self._state.folder(place.parent.parent.name))
            raise
        taken = structs.replace(model.spec.artifact, sha256=artifact.sha256)
        await self._state.record_spec(model.model_id, artifact=taken)
        await self._deployments.scale(model, config.replicas)
        log.info("an entry of the models folder changes its replicas", model=model.ref, replicas=config.replicas)
        return True

    async def start_again(self, model: ModelVersion) -> None:
        """Start a failed version again, as its folder is seen for the first time or was touched.

        A stopped one stays stopped.
        """
        deployment = self._state.deployment(model.model_id)
        if deployment.status is Status.FAILED and not self._deployments.busy(model.model_id):
            await self._deployments.start(model)

    async def give_up_unfinished(self, name: str) -> None:
        """Delete versions that are being deployed while a newer one exists: they would take its traffic in the end."""
        for model in self.of(name):
            if not is_serving(self._state.deployment(model.model_id)) and self._deployments.busy(model.model_id):
                await self._deployments.delete(model)

    def of(self, name: str) -> list[ModelVersion]:
        """Return the versions of this entry, oldest first, without uploads of the same name."""
        return [model for model in self._state.models() if model.identity.models_folder == name]

    def newest(self, name: str) -> ModelVersion | None:
        return next(reversed(self.of(name)), None)
