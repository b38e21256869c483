"""What the owner's files show under `__main__` for a pickle to find."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from model_container.adapters.pickle import load_code

CODE = """
import subprocess
from functools import lru_cache
from subprocess import Popen, run

LIMIT = 3
LABELS = {0: "no", 1: "yes"}

class Scaler: pass

@lru_cache
def cached(): return 1

double = lambda x: 2 * x
"""


def test_a_file_shows_what_it_defines_and_not_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owners_train.py").write_text(CODE)
    main = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "path", list(sys.path))
    load_code(str(tmp_path))
    monkeypatch.delitem(sys.modules, "owners_train")
    assert {"LIMIT", "LABELS", "Scaler", "cached", "double"} <= vars(main).keys()
    assert not {"subprocess", "Popen", "run", "lru_cache"} & vars(main).keys()
