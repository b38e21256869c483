"""Write docs/settings.md from app/settings.py, so that the page cannot say anything else.

.venv/bin/python scripts/settings_page.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.settings import Settings, variable

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

HEAD = """\
# Settings

Each setting is an environment variable. If a value is invalid, the server does not start and prints one line that names
the variable, the value and the reason. Relative paths start from `PRISM_HOME`.

| variable | default | what it does |
| --- | --- | --- |
"""
FOOT = "\nThis page is written by `scripts/settings_page.py` from `app/settings.py`; a test compares them.\n"


def page() -> str:
    rows = (
        f"| `{variable(name)}` | {default(field)} | {meaning(field)} |\n"
        for name, field in Settings.model_fields.items()
    )
    return HEAD + "".join(rows) + FOOT


def default(field: FieldInfo) -> str:
    """Return the default as written in a shell; for a computed default, the docstring of its function."""
    if field.default is PydanticUndefined:
        return (field.default_factory.__doc__ or "").strip().removesuffix(".")
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`" if str(field.default) else "unset"


def meaning(field: FieldInfo) -> str:
    choices = ""
    if get_origin(field.annotation) is Literal:
        choices = " One of " + ", ".join(f"`{choice}`" for choice in get_args(field.annotation)) + "."
    return f"{field.description}{choices}".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
