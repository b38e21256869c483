"""Contents of the settings page: the server's limits and its storage."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from app.core.folders import folder_size_bytes
from app.settings import Settings, variable
from app.ui.figures import memory

LIMITS = (
    # field, label, unit
    ("rate_limit_requests", "Requests per caller and window", ""),
    ("rate_limit_window_seconds", "Length of the window", "s"),
    ("max_body_mb", "Prediction request", "MiB"),
    ("max_upload_mb", "Model file", "MiB"),
    ("max_batch_size", "Requests in one batch", ""),
    ("queue_length", "Waiting requests per model", ""),
    ("predict_timeout_seconds", "Longest prediction", "s"),
    ("model_memory_mb", "Memory per replica", "MiB"),
    ("model_cpus", "CPU cores per replica", ""),
    ("model_pids", "Processes and threads per replica", ""),
    ("start_timeout_seconds", "Longest start", "s"),
    ("build_timeout_seconds", "Longest build", "s"),
)


class LimitShown(Struct, frozen=True):
    label: str
    value: str
    variable: str
    explained: str


class Place(Struct, frozen=True):
    """Folder that this server fills. note: how many items it holds."""

    label: str
    path: Path
    size_bytes: int
    note: str = ""


class Storage(Struct, frozen=True):
    places: tuple[Place, ...]
    free_bytes: int
    total_bytes: int


def limits(settings: Settings) -> list[LimitShown]:
    return [
        LimitShown(label, setting_text(getattr(settings, field), unit), variable(field), explained(field))
        for field, label, unit in LIMITS
    ]


def setting_text(value: float, unit: str) -> str:
    """Format a setting with its unit. Zero, where allowed, means no limit and becomes "none"."""
    if value and unit == "MiB":
        return memory(value * (1 << 20))
    return f"{value:g} {unit}".strip() if value else "none"


def explained(field: str) -> str:
    return Settings.model_fields[field].description or ""


async def storage(settings: Settings) -> Storage:
    """Measure the server's folders. Walks through every file, in a thread."""
    return await asyncio.to_thread(_storage, settings)


def _storage(settings: Settings) -> Storage:
    environments = settings.environments
    built = _counted(environments.glob("*.json"), "environment")
    models = _counted(settings.upload_root.glob("*/model.json"), "model")
    places = (
        Place("Models", settings.upload_root, folder_size_bytes(settings.upload_root), models),
        Place("Environments", environments, folder_size_bytes(environments), built),
        Place("Working files", settings.run_folder, folder_size_bytes(settings.run_folder)),
    )
    usage = shutil.disk_usage(settings.upload_root)
    return Storage(places, usage.free, usage.total)


def _counted(items: Iterable[Path], noun: str) -> str:
    number = sum(1 for _ in items)
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
