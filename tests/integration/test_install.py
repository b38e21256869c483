"""The real uv installs what a lock lists, from an index whose mirrors do not all have a new release yet."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.core.environment import Lock
from app.errors import BuildFailed
from app.runtime.packages import install as installer
from app.runtime.packages.audit import site_packages
from app.runtime.packages.install import install
from tests.integration.hostile_wheel import PACKAGE, write_wheel
from tests.integration.package_index_lab import forget_configuration

PYTHON = "{}.{}".format(*sys.version_info[:2])


class Mirrors:
    """An index on loopback, whose page lacks the new release for the first `stale` requests."""

    def __init__(self, folder: Path, stale: int) -> None:
        write_wheel(folder / "old", "1.0", {f"{PACKAGE}/__init__.py": ""})
        write_wheel(folder / "new", "1.0", {f"{PACKAGE}/__init__.py": ""})
        write_wheel(folder / "new", "2.0", {f"{PACKAGE}/__init__.py": ""})
        self._folder = folder
        self.stale = stale
        self.pages = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Mirror, mirrors=self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/simple/"

    def folder_for(self, path: str) -> Path:
        if not path.endswith(".whl"):
            self.pages += 1
            return self._folder / ("old" if self.pages <= self.stale else "new")
        return self._folder / "new"


class _Mirror(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: object, mirrors: Mirrors) -> None:
        self._mirrors = mirrors
        super().__init__(*arguments)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        self.directory = os.fspath(self._mirrors.folder_for(path))
        return super().translate_path(path)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    forget_configuration(monkeypatch, tmp_path / "cache")
    index = Mirrors(tmp_path / "index", stale=2)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setattr(installer, "PAUSE_SECONDS", 0.01)
    thread = threading.Thread(target=index.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield index
    index.server.shutdown()
    thread.join()
    index.server.server_close()


async def test_a_release_that_a_mirror_does_not_list_yet_is_asked_for_again(mirrors: Mirrors, tmp_path: Path) -> None:
    lines: list[str] = []
    await install(Lock(PYTHON, f"{PACKAGE}==2.0\n"), tmp_path / "env", sys.executable, lines.append, 60)
    assert (site_packages(tmp_path / "env", PYTHON) / f"{PACKAGE}-2.0.dist-info").is_dir()
    assert mirrors.pages == 3
    assert lines.count("The index listed that version before; asking it again.") == 2


async def test_a_release_that_is_gone_from_the_index_is_an_error_that_names_it(
    mirrors: Mirrors, tmp_path: Path
) -> None:
    with pytest.raises(BuildFailed, match=rf"no version of {PACKAGE}==3\.0"):
        await install(Lock(PYTHON, f"{PACKAGE}==3.0\n"), tmp_path / "env", sys.executable, lambda _: None, 60)
    assert mirrors.pages == installer.ATTEMPTS
