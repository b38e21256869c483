from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.prism.small_server import SmallServer, small_server


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with small_server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PRISM_URL", "PRISM_API_KEY", "PRISM_TARGET", "PRISM_PORT", "PRISM_HOST", "PRISM_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PRISM_HOME", str(tmp_path / "home"))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "iris.joblib"
    path.write_bytes(b"a model")
    return path
