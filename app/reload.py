"""Notices changes of the server's own code, for development."""

from __future__ import annotations

import asyncio
from pathlib import Path

ROOT = Path(__file__).resolve().parent
WATCHED = (ROOT, ROOT.parent / "model_container")
SUFFIXES = (".py", ".html", ".css")
POLL_SECONDS = 0.5


def snapshot() -> dict[Path, int]:
    """Return every source file and when it was last written, in ns."""
    files = (path for folder in WATCHED for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return {path: path.stat().st_mtime_ns for path in files if path.exists()}


async def code_changed() -> None:
    """Return once a source file was added, removed or written to."""
    before = await asyncio.to_thread(snapshot)
    while await asyncio.to_thread(snapshot) == before:
        await asyncio.sleep(POLL_SECONDS)
