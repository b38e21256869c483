"""Models stored on this host: one folder each, with the artifact and a record of what is known about it.

<root>/<model_id>/model.json        the record (app.core.model.ModelVersion)
                  artifact/<file>   the artifact as uploaded
                  code/<file>.py    the owner's code files, if any
                  build.log  logs/  output of the build and of the replicas
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import structlog
from msgspec import Struct

from app.core.atomic_file import holds, write_atomic
from app.core.foreign_json import ForeignJsonError, read_json
from app.core.model import Findings, Identity, ModelVersion, Spec
from app.registry.unsaved import Unsaved

log = structlog.get_logger(__name__)


class _Layout(Struct):
    """The mark of a record in three parts. The rest of a record is not looked at: samples may be deeply nested."""

    identity: Any = None


def _read(content: bytes) -> ModelVersion:
    """Decode a record. Raises ForeignJsonError.

    Earlier gateways wrote the fields of the three parts side by side.
    """
    if read_json(content, _Layout).identity is not None:
        return read_json(content, ModelVersion)
    return ModelVersion(read_json(content, Identity), read_json(content, Spec), read_json(content, Findings))


class ModelStore:
    """Records of all models. They are few and small, so all are kept in memory and written through.

    The disk is written in threads, in turn for each model. Readers see a record when it is on disk.
    """

    def __init__(self, root: Path, unsaved: Unsaved | None = None) -> None:
        self.root = root
        self._unsaved = unsaved or Unsaved()
        self._models: dict[str, ModelVersion] = {}
        self._by_name: dict[str, dict[str, ModelVersion]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def load(self) -> None:
        """Read every record. One that cannot be read is left in place and logged; the other models are served."""
        self.root.mkdir(parents=True, exist_ok=True)
        for record in self.root.glob("*/model.json"):
            try:
                model = _read(record.read_bytes())
            except (OSError, ForeignJsonError) as error:
                log.error("a model's record cannot be read; the model is ignored", path=str(record), error=str(error))
                continue
            self._put(model)

    def folder(self, model_id: str) -> Path:
        return self.root / model_id

    def get(self, model_id: str) -> ModelVersion | None:
        return self._models.get(model_id)

    def all(self) -> tuple[ModelVersion, ...]:
        return _by_age(self._models)

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        return _by_age(self._by_name.get(name, {}))

    async def save(self, model: ModelVersion) -> None:
        """Write a model's record. Raises OSError if it cannot be written; the record is then unchanged."""
        async with self._turn(model.model_id):
            await self._write(model)

    async def change(self, model_id: str, change: Callable[[ModelVersion], ModelVersion]) -> ModelVersion | None:
        """Write what `change` makes of a model's newest record. Raises OSError; the record is then unchanged."""
        async with self._turn(model_id):
            model = self._models.get(model_id)
            if model is not None:
                model = change(model)
                await self._write(model)
            return model

    async def note(self, model_id: str, change: Callable[[ModelVersion], ModelVersion]) -> ModelVersion | None:
        """Record a fact that holds whether or not it can be written.

        Readers see it at once. On OSError the write is retried until it succeeds.
        """
        async with self._turn(model_id):
            model = self._models.get(model_id)
            if model is not None:
                model = change(model)
                self._put(model)
                try:
                    await self._write(model)
                except OSError as error:
                    self._owe(model_id, error)
            return model

    async def _write(self, model: ModelVersion) -> None:
        path, content = self._record(model.model_id), msgspec.json.format(msgspec.json.encode(model))
        try:
            await asyncio.to_thread(write_atomic, path, content)
        except OSError as error:
            if model.model_id in self._models and await asyncio.to_thread(holds, path, content):
                self._owe(model.model_id, error)
            raise
        self._put(model)
        self._unsaved.saved(path)

    def _owe(self, model_id: str, error: OSError) -> None:
        self._unsaved.add(self._record(model_id), lambda: self._save_again(model_id), error)

    async def _save_again(self, model_id: str) -> None:
        await self.change(model_id, lambda model: model)

    async def delete(self, model_id: str) -> None:
        """Forget the model and remove its folder with everything in it; a removal that fails is retried later.

        The record is removed first, so that a server killed halfway leaves no model behind. Raises OSError if the
        record cannot be removed; the model then exists as before.
        """
        async with self._turn(model_id):
            await asyncio.to_thread(self._record(model_id).unlink, missing_ok=True)
            self._drop(model_id)
            self._unsaved.saved(self._record(model_id))
            try:
                await self._remove_rest(model_id)
            except OSError as error:
                self._unsaved.add(self.folder(model_id), lambda: self._remove_rest(model_id), error)

    async def _remove_rest(self, model_id: str) -> None:
        with suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.rmtree, self.folder(model_id))
        self._unsaved.saved(self.folder(model_id))

    async def take_back(self, model_id: str) -> None:
        """Forget a model whose upload did not complete, even if its files cannot be removed yet."""
        self._drop(model_id)
        try:
            await self.delete(model_id)
        except OSError as error:
            self._unsaved.add(self._record(model_id), lambda: self.delete(model_id), error)

    def _put(self, model: ModelVersion) -> None:
        self._models[model.model_id] = model
        self._by_name.setdefault(model.name, {})[model.model_id] = model

    def _drop(self, model_id: str) -> None:
        model = self._models.pop(model_id, None)
        if model is not None:
            del self._by_name[model.name][model_id]
            if not self._by_name[model.name]:
                del self._by_name[model.name]

    def _turn(self, model_id: str) -> asyncio.Lock:
        return self._turns.setdefault(model_id, asyncio.Lock())

    def _record(self, model_id: str) -> Path:
        return self.folder(model_id) / "model.json"


def _by_age(models: Mapping[str, ModelVersion]) -> tuple[ModelVersion, ...]:
    return tuple(sorted(models.values(), key=lambda model: (model.identity.created_at, model.model_id)))
