"""Builds images of other forms of a model, such as the accelerated one, as if they were models of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from msgspec import structs

from app.core.inspection import Inspection
from app.core.model import Artifact, ModelVersion, Variant, VariantName
from app.runtime.docker.context import place_of


def variant_image(model: ModelVersion, form: Variant) -> ModelVersion:
    """Return a model whose image holds this form of the given one. That image has a name of its own."""
    if form.name is VariantName.ORIGINAL:
        return model
    return structs.replace(
        model,
        model_id=f"{model.model_id}_{form.name}",
        lock=form.lock,
        artifact=Artifact(place_of(form), "", 0),
        inspection=structs.replace(model.inspection or Inspection(form.format), format=form.format),
    )


def write_build_folder(form: Variant, folder: Path, place: Path) -> None:
    """Lay out in `place` what the image of a form is built from, as the original lies in the model's folder."""
    file = place / "artifact" / place_of(form)
    file.parent.mkdir(parents=True)
    os.link(folder / form.file, file)
    if form.code and (folder / "code").is_dir():
        shutil.copytree(folder / "code", place / "code")
