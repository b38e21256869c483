"""Reads the settings: of the command line, else the environment, else config.yaml, else their defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct
from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from app.config.document import Document, Entry, Problem, read_document
from app.config.reading import expanded, invalid, read_text, references
from app.errors import InvalidSetting
from app.settings import Places, Settings, default_home, field_of, is_secret, variable

VARIABLE: Final = "PRISM_CONFIG"
FILE_NAME: Final = "config.yaml"
S = TypeVar("S", bound=Places)


class Source(Struct, frozen=True):
    """Where a setting comes from. line: of config.yaml; 0 elsewhere."""

    name: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.name}, line {self.line}" if self.line else self.name


class _Written(Settings):
    """The settings as one source gives them, apart from the environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings. Raises InvalidSetting, one line that names setting, value and reason."""
    path = config_path(overrides.get("home"))
    document = _document(path)
    if problem := next((one for one in document.problems if not one.is_warning), None):
        raise invalid(path, problem)
    return _load(Settings, path, document, overrides)


def load_places() -> Places:
    """Read only where the server's record lies, so that a mistake in another setting hides no server that runs."""
    path = config_path()
    document = _document(path)
    if not document.is_readable:
        raise invalid(path, document.problems[0])
    return _load(Places, path, document, {})


def config_path(home: Path | None = None) -> Path:
    """Return where config.yaml is: as PRISM_CONFIG says, else in the home folder, where it may be missing."""
    if chosen := os.environ.get(VARIABLE):
        return Path(os.path.expanduser(chosen)).absolute()
    return (home or Path(os.path.expanduser(os.environ.get("PRISM_HOME") or default_home()))).absolute() / FILE_NAME


def set_in_environment() -> frozenset[str]:
    """Return the settings that environment variables set."""
    return frozenset(map(field_of, EnvSettingsSource(Settings)()))


def sources() -> dict[str, Source]:
    """Return where each setting comes from when a server is started from here."""
    lines = {entry.key: entry.line for entry in _document(config_path()).entries if entry.value is not None}
    outside = set_in_environment()
    return {field: _source(field, outside, lines.get(field, 0)) for field in Settings.model_fields}


def variables_named() -> frozenset[str]:
    """Return the variables of the environment that the values of config.yaml name."""
    values = (entry.value or "" for entry in _document(config_path()).entries)
    return frozenset(name for value in values for name in references(value))


def warnings() -> tuple[str, ...]:
    """Return what config.yaml has in it that means nothing to this version."""
    path = config_path()
    return tuple(f"{path}, line {one.line}: {one.message}." for one in _document(path).problems if one.is_warning)


def mistakes(values: Mapping[str, str]) -> dict[str, str]:
    """Return the fields whose values are none of their types, with the reasons."""
    try:
        written(values)
    except ValidationError as error:
        return {field_of(str(one["loc"][0])): _reason(field_of(str(one["loc"][0])), one) for one in error.errors()}
    return {}


def written(values: Mapping[str, str]) -> Settings:
    """Return these settings and the defaults of the others. Raises ValidationError."""
    return _Written(**values)  # type: ignore[arg-type]


def _document(path: Path) -> Document:
    text = read_text(path)
    if text is None and os.environ.get(VARIABLE):
        raise InvalidSetting(
            f"{path} does not exist.", hint=f"It is named by {VARIABLE} or --config: make it, or unset it."
        )
    return read_document(text, Settings.model_fields) if text is not None else Document()


def _load(kind: type[S], path: Path, document: Document, overrides: Mapping[str, Any]) -> S:
    decided = overrides.keys() | set_in_environment()
    entries = {entry.key: entry for entry in document.entries if entry.key in kind.model_fields.keys() - decided}
    values = {key: _value(path, entry) for key, entry in entries.items() if entry.value is not None}
    if "home" in values:
        values["home"] = str(path.parent / os.path.expanduser(values["home"]))
    try:
        return kind(**{**values, **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        field = field_of(str(first["loc"][0]))
        reason = _reason(field, first)
        if field in entries and field not in overrides:
            raise invalid(path, Problem(entries[field].line, f"{field}{reason}")) from error
        name = variable(field)
        raise InvalidSetting(
            f"{name}{reason}.", hint=f"Correct {name}, or unset it for the default.", setting=name
        ) from error


def _value(path: Path, entry: Entry) -> str:
    value = expanded(entry, os.environ)
    if isinstance(value, Problem):
        raise invalid(path, value)
    return value


def _reason(field: str, error: Mapping[str, Any]) -> str:
    """Return the value and what is wrong with it, to follow the setting's name; of a secret, no value."""
    message = str(error["msg"]).removeprefix("Value error, ")
    return f": {message}" if is_secret(field) else f"={error.get('input')!r}: {message}"


def _source(field: str, outside: frozenset[str], line: int) -> Source:
    if field in outside:
        return Source(variable(field))
    return Source(FILE_NAME, line) if line else Source("default")
