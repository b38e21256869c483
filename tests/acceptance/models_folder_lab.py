"""Puts files into a models folder, as its owner does."""

from __future__ import annotations

import shutil
from pathlib import Path


def put(folder: Path, name: str, **files: str | Path) -> Path:
    """An entry with these files; `_py` and `_yaml` end names that Python's keywords cannot hold.

    Each is there whole and at once: what lies there half written for long enough would be taken for a version.
    """
    entry, aside = folder / name, folder.parent / f"{folder.name}-{name}.new"
    aside.mkdir()
    for key, content in files.items():
        stem, _, suffix = key.rpartition("_")
        place = aside / f"{stem}.{suffix}"
        if isinstance(content, Path):
            shutil.copy(content, place)
        else:
            place.write_text(content)
    if not entry.exists():
        return aside.rename(entry)
    for place in aside.iterdir():
        place.rename(entry / place.name)
    aside.rmdir()
    return entry
