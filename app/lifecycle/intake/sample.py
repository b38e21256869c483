"""The sample model that comes with PRISM, for users who have none at hand."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
from pathlib import Path
from time import monotonic

from msgspec import structs

from app.core.model import Artifact, ModelVersion
from app.core.route_table import is_serving
from app.errors import NotFound
from app.lifecycle.deployments import Deployments
from app.lifecycle.intake.receive import Upload, discard

FOLDER = Path(__file__).resolve().parents[3] / "model_store" / "samples" / "iris"
NAME = "iris"


async def deploy_sample(deployments: Deployments) -> ModelVersion:
    """Deploy the sample model, or return the model of the same file that is live or being deployed already.

    Raises NotFound where PRISM was installed without it.
    """
    began = monotonic()
    file = FOLDER / "iris.joblib"
    if not file.is_file():
        raise NotFound("This installation does not include the sample model.", hint="Upload a model of your own.")
    content = await asyncio.to_thread(file.read_bytes)
    artifact = Artifact(file.name, hashlib.sha256(content).hexdigest(), len(content))
    for model in deployments.state.models():
        deployment = deployments.state.deployment(model.model_id)
        if model.spec.artifact == artifact and (is_serving(deployment) or deployments.busy(model.model_id)):
            return model
    upload = await _stored(file, artifact, deployments.state.folder(""))
    elapsed_ms = (monotonic() - began) * 1000
    return await deployments.accept(structs.replace(upload, received_ms=elapsed_ms), run=True)


async def _stored(file: Path, artifact: Artifact, root: Path) -> Upload:
    """Store the sample as an upload is stored; it has a few kB. Raises OSError; then nothing is left of it."""
    model_id = secrets.token_hex(6)
    folder = root / model_id
    texts = {
        "model_name": NAME,
        "model_description": "Species of iris flowers",
        "expected_input_json": (FOLDER / "sample.json").read_text(),
    }
    try:
        (folder / "artifact").mkdir(parents=True, mode=0o700)
        shutil.copy(file, folder / "artifact" / file.name)
    except OSError:
        await discard(folder)
        raise
    return Upload(model_id, folder, texts, artifact, ())
