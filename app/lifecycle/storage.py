"""What the images of targets take, model by model, and which of them nothing needs any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from msgspec import Struct

from app.core.folders import folder_size_bytes
from app.errors import TargetUnavailable
from app.lifecycle.deployments import Deployments
from app.runtime.target import StoredImage, Target

SETTLED_SECONDS = 600.0
"""Age from which on an image is no step of a build that is under way."""


class ModelImages(Struct, frozen=True):
    """The images of one version. size_bytes: without its environment, which others may share."""

    model_id: str
    ref: str
    images: tuple[str, ...]
    size_bytes: int


class Leftover(Struct, frozen=True):
    """An image of ours that nothing needs. reason: for a person."""

    id: str
    name: str
    size_bytes: int
    reason: str


class ImageStorage(Struct, frozen=True):
    """The images on the targets. unavailable: the targets that did not answer.

    environments, environments_bytes: those that models of this server are built upon. files_bytes: what the models' files
    take on this machine; one that several versions have counts once.
    """

    models: tuple[ModelImages, ...] = ()
    environments: int = 0
    environments_bytes: int = 0
    leftovers: tuple[Leftover, ...] = ()
    unavailable: tuple[str, ...] = ()
    files_bytes: int = 0

    @property
    def leftovers_bytes(self) -> int:
        return sum(leftover.size_bytes for leftover in self.leftovers)


async def image_storage(deployments: Deployments) -> ImageStorage:
    """Ask the targets for their images, and tell whose they are."""
    images: list[StoredImage] = []
    unavailable = []
    for target in deployments.pipeline.targets.offered.values():
        try:
            images += await target.images()
        except TargetUnavailable:
            unavailable.append(target.name)
    state = deployments.state
    needed = {variant.lock.hash for model in state.models() for variant in model.variants}
    own: dict[str, list[StoredImage]] = {}
    for image in images:
        if state.model(image.model_id) is not None and image.name:
            own.setdefault(image.model_id, []).append(image)
    environments = [image for image in images if not image.model_id and image.name and image.lock_hash in needed]
    models = [
        ModelImages(
            model.model_id,
            model.ref,
            tuple(sorted(image.name for image in own[model.model_id])),
            sum(image.size_bytes for image in own[model.model_id]),
        )
        for model in state.models()
        if model.model_id in own
    ]
    return ImageStorage(
        models=tuple(sorted(models, key=lambda entry: -entry.size_bytes)),
        environments=len(environments),
        environments_bytes=sum(image.size_bytes for image in environments),
        leftovers=tuple(leftovers(images, {model.model_id for model in state.models()}, needed)),
        unavailable=tuple(unavailable),
        files_bytes=await asyncio.to_thread(folder_size_bytes, state.folder("")),
    )


def leftovers(images: Iterable[StoredImage], model_ids: set[str], needed: set[str]) -> list[Leftover]:
    """Return what of this PRISM's own images nothing needs. Images of another PRISM on the engine are left alone.

    model_ids: the models that there are. needed: the hashes of their environments.
    """
    images = list(images)
    built_upon = {image.lock_hash for image in images if image.model_id}
    found = []
    for image in images:
        if not image.is_own or image.age_seconds < SETTLED_SECONDS:
            continue
        if not image.name:
            reason = "a newer build took its name"
        elif image.model_id and image.model_id not in model_ids:
            reason = "its model is gone"
        elif not image.model_id and image.lock_hash not in needed | built_upon:
            reason = "no model needs this environment"
        else:
            continue
        found.append(Leftover(image.id, image.name or image.id.removeprefix("sha256:")[:12], image.size_bytes, reason))
    return found


async def prune_images(deployments: Deployments) -> list[Leftover]:
    """Remove what `image_storage` calls left over, as things are now. Returns what was removed.

    An image that a container uses stays.
    """
    found = (await image_storage(deployments)).leftovers
    targets = deployments.pipeline.targets.offered.values()
    return [leftover for leftover in found if await _removed(leftover, targets)]


async def _removed(leftover: Leftover, targets: Iterable[Target]) -> bool:
    for target in targets:
        if await target.remove_image(leftover.id):
            return True
    return False
