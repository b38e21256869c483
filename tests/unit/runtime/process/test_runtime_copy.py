from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.runtime.process.runtime_copy import PACKAGE, compile_for, runtime_copy


def sources(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_models_built_at_the_same_time_share_one_whole_copy(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        copies = set(pool.map(runtime_copy, [tmp_path] * 24))
    assert len(copies) == 1
    assert sources(copies.pop() / "model_container") == sources(PACKAGE)
    assert len(list(tmp_path.iterdir())) == 1, "nothing half-made is left"


def test_the_copy_is_compiled_once_for_each_python(tmp_path: Path) -> None:
    homes = [tmp_path / "a", tmp_path / "b"]
    for home in homes:
        home.mkdir()
    copy, elsewhere = map(runtime_copy, homes)
    bytecode = copy / "model_container" / "__pycache__"
    compile_for(sys.executable, copy, tmp_path / "cache")
    compile_for(sys.executable, elsewhere, tmp_path / "cache")
    (compiled,) = bytecode.glob("runtime.*.pyc")
    assert compiled.samefile(elsewhere / "model_container" / "__pycache__" / compiled.name)
    shutil.rmtree(bytecode)
    compile_for(sys.executable, copy, tmp_path / "cache")
    assert not bytecode.exists()
