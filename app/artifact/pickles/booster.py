"""Finds the version of XGBoost at the end of a serialised booster, which is JSON or, since 2.0, UBJSON.

Source: `XGBoosterSerializeToBuffer`, whose object ends with the model's `version`, in xgboost/src/c_api/c_api.cc.
"""

from __future__ import annotations

import re
from typing import Final

BOOSTER_END_BYTES: Final = 64
IN_JSON: Final = re.compile(rb'"version":\s*\[(\d{1,4}),\s*(\d{1,4}),\s*(\d{1,4})\]\s*\}*\s*$')
IN_UBJSON: Final = re.compile(rb"version\[#L\0{7}\x03(?:[iU](.)|I(..))(?:[iU](.)|I(..))(?:[iU](.)|I(..))\]?\}*$", re.S)


def version_of_booster(end: bytes) -> str:
    """Return the version such as "3.2.0"; "" if none is found. end: the last BOOSTER_END_BYTES bytes of the booster."""
    if found := IN_JSON.search(end):
        return ".".join(str(int(number)) for number in found.groups())
    if found := IN_UBJSON.search(end):
        return ".".join(str(int.from_bytes(number, "big")) for number in found.groups() if number is not None)
    return ""
