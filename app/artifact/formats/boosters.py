"""Recognises files in the own formats of XGBoost, LightGBM and CatBoost: trees and numbers, no code.

Sources: xgboost's `save_model` (UBJSON and JSON, an object whose first key is `learner`), LightGBM's
`Booster.save_model` (text that begins with `tree`), CatBoost's `save_model` (cbm and json).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from app.artifact.pickles.booster import BOOSTER_END_BYTES, version_of_booster
from app.core.inspection import Format, Inspection, Pin

UBJSON: Final = b"{L\0\0\0\0\0\0\0"
XGBOOST_JSON: Final = re.compile(rb'\s*\{\s*"learner"\s*:')
CATBOOST_JSON: Final = re.compile(rb'\s*\{\s*"(features_info|ctr_data|model_info|oblivious_trees)"\s*:')
LIGHTGBM: Final = re.compile(rb"tree\r?\nversion=v(\d{1,3})\r?\n")
FIRST_LIGHTGBM: Final = {3: "2.3", 4: "4"}
"""The first LightGBM that writes a version of the format; later ones read it too."""

CATEGORIES: Final = re.compile(rb"\npandas_categorical:\[\s*\[")
END_BYTES: Final = 1 << 16


def read_booster(path: Path, head: bytes) -> Inspection | None:
    """Inspect a file in one of the formats; None for another. head: its first bytes."""
    if (head.startswith(UBJSON) and b"learner" in head[:32]) or XGBOOST_JSON.match(head):
        return _xgboost(path, head)
    if found := LIGHTGBM.match(head):
        return _lightgbm(path, int(found[1]))
    if head.startswith(b"CBM1") or CATBOOST_JSON.match(head):
        pin = Pin("catboost", "", "the file is in CatBoost's own format")
        return Inspection(
            format=Format.CATBOOST, pins=(pin,), facts={"stored_as": "cbm" if head[:1] == b"C" else "JSON"}
        )
    return None


def _xgboost(path: Path, head: bytes) -> Inspection:
    version = version_of_booster(_end(path, BOOSTER_END_BYTES))
    evidence = f"XGBoost {version} saved the file" if version else "the file is in XGBoost's own format"
    pins = [Pin("xgboost", f"=={version}" if version else "", evidence)]
    if b"scikit_learn" in head:
        pins.append(Pin("scikit-learn", "", "the file holds an estimator, which XGBoost does not load without it"))
    facts = {"stored_as": "UBJSON" if head.startswith(UBJSON) else "JSON"}
    return Inspection(format=Format.XGBOOST, pins=tuple(pins), facts=facts)


def _lightgbm(path: Path, version: int) -> Inspection:
    first = FIRST_LIGHTGBM.get(version)
    evidence = f"the file has version {version} of LightGBM's own format"
    pins = [Pin("lightgbm", f">={first}" if first else "", evidence)]
    if CATEGORIES.search(_end(path, END_BYTES)):
        pins.append(Pin("pandas", "", "LightGBM was trained on categories of pandas (`pandas_categorical`)"))
    return Inspection(format=Format.LIGHTGBM, pins=tuple(pins), facts={"stored_as": "text"})


def _end(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read(size)
