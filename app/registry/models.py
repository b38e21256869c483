"""Models stored on this host: one folder each, with the artifact and a record of what is known about it.

<root>/<model_id>/model.json        the record (app.core.model.ModelVersion)
                  artifact/<file>   the artifact as uploaded
                  code/<file>.py    the owner's code files, if any
                  build.log  logs/  output of the build and of the replicas
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from app.core.atomic_file import holds, write_atomic
from app.core.foreign_json import ForeignJsonError, read_json
from app.core.model import Findings, Identity, ModelVersion, Spec
from app.registry.unsaved import Unsaved

log = structlog.get_logger(__name__)


def _read(content: bytes) -> ModelVersion:
    """Decode a record. Raises ForeignJsonError.

    Earlier gateways wrote the fields of the three parts side by side.
    """
    if "identity" in read_json(content, dict[str, Any]):
        return read_json(content, ModelVersion)
    return ModelVersion(read_json(content, Identity), read_json(content, Spec), read_json(content, Findings))


class ModelStore:
    """Records of all models. They are few and small, so all are kept in memory and written through."""

    def __init__(self, root: Path, unsaved: Unsaved | None = None) -> None:
        self.root = root
        self._unsaved = unsaved or Unsaved()
        self._models: dict[str, ModelVersion] = {}

    def load(self) -> None:
        """Read every record. One that cannot be read is left in place and logged; the other models are served."""
        self.root.mkdir(parents=True, exist_ok=True)
        for record in self.root.glob("*/model.json"):
            try:
                model = _read(record.read_bytes())
            except (OSError, ForeignJsonError) as error:
                log.error("a model's record cannot be read; it is left out", path=str(record), error=str(error))
                continue
            self._models[model.model_id] = model

    def folder(self, model_id: str) -> Path:
        return self.root / model_id

    def get(self, model_id: str) -> ModelVersion | None:
        return self._models.get(model_id)

    def all(self) -> tuple[ModelVersion, ...]:
        return tuple(sorted(self._models.values(), key=lambda model: model.identity.created_at))

    def save(self, model: ModelVersion) -> None:
        """Write a model's record. Raises OSError if it cannot be written; the record is then unchanged."""
        path, content = self._record(model.model_id), msgspec.json.format(msgspec.json.encode(model))
        try:
            write_atomic(path, content)
        except OSError as error:
            if model.model_id in self._models and holds(path, content):
                self._owe(model.model_id, error)
            raise
        self._models[model.model_id] = model
        self._unsaved.saved(path)

    def note(self, model: ModelVersion) -> None:
        """Record a fact that holds whether or not it can be written.

        On OSError the write is retried until it succeeds.
        """
        try:
            self.save(model)
        except OSError as error:
            self._models[model.model_id] = model
            self._owe(model.model_id, error)

    def _owe(self, model_id: str, error: OSError) -> None:
        self._unsaved.add(self._record(model_id), lambda: self._save_again(model_id), error)

    async def _save_again(self, model_id: str) -> None:
        self.save(self._models[model_id])

    def delete(self, model_id: str) -> None:
        """Forget the model and remove its folder with everything in it; a removal that fails is retried later.

        The record is removed first, so that a server killed halfway leaves no model behind. Raises OSError if the
        record cannot be removed; the model then exists as before.
        """
        self._record(model_id).unlink(missing_ok=True)
        self._models.pop(model_id, None)
        self._unsaved.saved(self._record(model_id))
        try:
            self._remove_rest(model_id)
        except OSError as error:
            self._unsaved.add(self.folder(model_id), lambda: self._remove_again(model_id), error)

    def _remove_rest(self, model_id: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder(model_id))
        self._unsaved.saved(self.folder(model_id))

    async def _remove_again(self, model_id: str) -> None:
        self._remove_rest(model_id)

    def take_back(self, model_id: str) -> None:
        """Forget a model whose upload did not complete, even if its files cannot be removed yet."""
        self._models.pop(model_id, None)
        try:
            self.delete(model_id)
        except OSError as error:
            self._unsaved.add(self._record(model_id), lambda: self._delete_again(model_id), error)

    async def _delete_again(self, model_id: str) -> None:
        self.delete(model_id)

    def _record(self, model_id: str) -> Path:
        return self.folder(model_id) / "model.json"
