from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.runtime.runtime_copy import PACKAGE, runtime_copy


def sources(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_models_built_at_the_same_time_share_one_whole_copy(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        copies = set(pool.map(runtime_copy, [tmp_path] * 24))
    assert len(copies) == 1
    assert sources(copies.pop() / "model_container") == sources(PACKAGE)
    assert len(list(tmp_path.iterdir())) == 1, "nothing half-made is left"
