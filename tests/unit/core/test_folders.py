"""What a hostile model or reader leaves in its folder is removed all the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from app.core.folders import remove_folder
from tests.faults import failing

DEEPER_THAN_PYTHON_GOES = 1500


def nest(top: Path, depth: int) -> None:
    """Create nested folders step by step, because no path may be that long."""
    place = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deep", dir_fd=place)
        below = os.open("deep", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)


def test_a_folder_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    top = tmp_path / "work"
    top.mkdir()
    (top / "file").touch()
    (top / "link").symlink_to(tmp_path)
    nest(top, DEEPER_THAN_PYTHON_GOES)

    remove_folder(top)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_read_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "work"
    (top / "closed" / "inside").mkdir(parents=True)
    (top / "closed").chmod(0)
    top.chmod(0)

    remove_folder(top)

    assert not top.exists()


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o755)
    top = tmp_path / "work"
    top.mkdir()
    nest(top, DEEPER_THAN_PYTHON_GOES)
    (top / "deep" / "link").symlink_to(kept)
    (top / "deep" / "file").symlink_to(tmp_path / "nowhere")

    remove_folder(top)

    assert list(tmp_path.iterdir()) == [kept]
    assert kept.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_gone_is_fine(tmp_path: Path) -> None:
    remove_folder(tmp_path / "gone")


def test_a_folder_that_cannot_be_removed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with failing(errno.EROFS, tmp_path, 1), pytest.raises(OSError, match="Read-only"):
        remove_folder(tmp_path / "work")
    assert (tmp_path / "work").is_dir()
