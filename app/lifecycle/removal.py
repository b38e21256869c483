"""What goes with a model: its files, its replicas, and what was made for it alone."""

from __future__ import annotations

import asyncio

from app.core.model import FormName, Model, TargetName
from app.lifecycle.ledger import Ledger
from app.lifecycle.pipeline import Road
from app.registry.models import folder_size_bytes
from app.runtime.docker_images import model_image


async def removal(model: Model, ledger: Ledger) -> list[str]:
    """All of it, for a person: a line for each thing."""
    folder = ledger.folder(model.model_id)
    size_kb = await asyncio.to_thread(folder_size_bytes, folder) / 1000
    size = f"{size_kb:.1f} kB" if size_kb < 1000 else f"{size_kb / 1000:.1f} MB"
    found = [f"model {model.ref} ({model.model_id})", f"{folder} ({size})"]
    for replica in ledger.deployment(model.model_id).replicas:
        found.append(f"{'container' if replica.target is TargetName.DOCKER else 'process'} {replica.id}")
    if model.target is TargetName.DOCKER and model.lock is not None:
        found.append(f"image {model_image(model.model_id)}")
    used = environments_of_others(model, ledger)
    unshared = dict.fromkeys(form.lock.hash for form in model.forms if form.lock.hash not in used)
    return found + [f"environment {each}" for each in unshared if model.target is not None]


async def remove_made(model: Model, ledger: Ledger, road: Road) -> None:
    """What its target made of it, in every form; environments of others stay."""
    if model.target is None:
        return
    used = environments_of_others(model, ledger)
    target = road.target(model)
    for form in model.forms:
        if form.name is not FormName.ORIGINAL:
            await target.remove_form(model, form, form.lock.hash in used)
    await target.remove(model, model.lock is None or model.lock.hash in used)


def environments_of_others(model: Model, ledger: Ledger) -> set[str]:
    """Hashes of those that stay, because another model uses them."""
    others = (other for other in ledger.models() if other.model_id != model.model_id)
    return {form.lock.hash for other in others for form in other.forms}
