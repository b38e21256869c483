"""Lays out folders as uploads bring them."""

from __future__ import annotations

from pathlib import Path


def laid_out(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder
