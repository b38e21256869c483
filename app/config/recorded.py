"""The settings of a server as its record has them, for a later command to compare its own with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from app.settings import Settings, is_secret

HIDDEN: Final = "(hidden)"
SALT: Final = "salt"
TAKEN_AT_A_MODELS_START: Final = frozenset(
    {
        *("home", "run_root", "model_upload_root", "model_container_registry_path", "environment_root", "base_image"),
        *("target", "model_memory_mb", "model_cpus", "model_threads", "model_pids", "execution_providers"),
    }
)
"""Settings that a model which is kept running does not take over."""


def recorded(settings: Settings, salt: str) -> dict[str, str]:
    """Return every setting as text, and the salt. A secret is only its digest: enough to tell whether it changed."""
    return {SALT: salt, **{field: _recorded(settings, field, salt) for field in Settings.model_fields}}


def changed(record: Mapping[str, str], settings: Settings) -> tuple[str, ...]:
    """Return the settings that differ from those of the record; of an older version's, those that it has."""
    now = recorded(settings, record.get(SALT, ""))
    return tuple(field for field in Settings.model_fields if field in record and record[field] != now[field])


def shown(settings: Settings, field: str) -> str:
    """Return a setting as text for people, as config.yaml would have it; "" for one that is unset."""
    text = _text(settings, field)
    return HIDDEN if text and is_secret(field) else text


def _recorded(settings: Settings, field: str, salt: str) -> str:
    text = _text(settings, field)
    return hashlib.sha256(f"{salt}{text}".encode()).hexdigest() if text and is_secret(field) else text


def _text(settings: Settings, field: str) -> str:
    value = settings.home.resolve() if field == "home" else getattr(settings, field)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)
