"""The images that PRISM has built on the engine: what they take, whose they are, and how one is removed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, cast

from app.errors import Conflict, NotFound
from app.runtime.docker.engine import Engine
from app.runtime.target import StoredImage

if TYPE_CHECKING:
    from docker import DockerClient

BUILT_BY = "prism.built_by"
"""Label of an image: the home of the PRISM that built it. Not HOME_LABEL, which a container of the image would inherit
and be taken for a replica.
"""


async def stored_images(engine: Engine, home: str) -> tuple[StoredImage, ...]:
    """Return every image of PRISM's on the engine, also those of other homes. Raises TargetUnavailable."""

    def look(client: DockerClient) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], client.api.images(filters={"label": "prism.environment"}))

    return stored_of(await engine.ask(look), home, time.time())


def stored_of(summaries: list[dict[str, Any]], home: str, now: float) -> tuple[StoredImage, ...]:
    """Read the engine's list of images. An image of a model counts without the environment that it is built upon."""
    environments = {
        summary["Labels"]["prism.environment"]: summary["Size"]
        for summary in summaries
        if "prism.model_id" not in summary["Labels"]
    }
    images = []
    for summary in summaries:
        labels = summary["Labels"]
        lock_hash, model_id = labels["prism.environment"], labels.get("prism.model_id", "")
        below = environments.get(lock_hash, 0) if model_id else 0
        names = [tag for tag in summary.get("RepoTags") or () if tag != "<none>:<none>"]
        images.append(
            StoredImage(
                id=summary["Id"],
                name=names[0].removesuffix(":latest") if names else "",
                size_bytes=max(0, summary["Size"] - below),
                lock_hash=lock_hash,
                model_id=model_id.partition("_")[0],  # a variant's has its name behind that
                is_own=labels.get(BUILT_BY) == home,
                age_seconds=max(0.0, now - summary["Created"]),
            )
        )
    return tuple(images)


async def remove_image(engine: Engine, id: str) -> bool:
    """Remove an image unless a container uses it. Returns False if it stays, or was gone."""
    with contextlib.suppress(NotFound, Conflict):
        await engine.ask(lambda client: client.api.remove_image(id), Conflict)
        return True
    return False
