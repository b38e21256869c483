"""Builds images of other variants of a model, such as the accelerated one, as if they were models of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from msgspec import structs

from app.core.inspection import Inspection
from app.core.model import Artifact, ModelVersion, Variant, VariantName
from app.runtime.docker.context import place_of


def variant_image(model: ModelVersion, variant: Variant) -> ModelVersion:
    """Return a model whose image holds this variant of the given one. That image has a name of its own."""
    if variant.name is VariantName.ORIGINAL:
        return model
    inspection = model.findings.inspection or Inspection(variant.format)
    return ModelVersion(
        structs.replace(model.identity, model_id=f"{model.model_id}_{variant.name}"),
        structs.replace(model.spec, artifact=Artifact(place_of(variant), "", 0)),
        structs.replace(
            model.findings, lock=variant.lock, inspection=structs.replace(inspection, format=variant.format)
        ),
    )


def write_build_folder(variant: Variant, folder: Path, place: Path) -> None:
    """Lay out in `place` what the image of a variant is built from, as the original lies in the model's folder."""
    file = place / "artifact" / place_of(variant)
    file.parent.mkdir(parents=True)
    os.link(folder / variant.file, file)
    if variant.code and (folder / "code").is_dir():
        shutil.copytree(folder / "code", place / "code")
