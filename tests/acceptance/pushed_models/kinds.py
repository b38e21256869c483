"""The table of the models that the lab makes, by the file or folder in which they are saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Made(NamedTuple):
    """A trained model. names: what the line that saves it finds. answer: from what is sent to what it answers in memory."""

    names: dict[str, Any]
    answer: Callable[[Any], Any]


MAKERS: dict[str, Callable[[], Made]] = {}
"""File → function that trains what it holds."""


def makes(*files: str) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Enter a function in the table, for each of the files that hold the same model."""

    def enter(maker: Callable[[], Made]) -> Callable[[], Made]:
        MAKERS.update(dict.fromkeys(files, maker))
        return maker

    return enter


def by_names(model: Any) -> Callable[[Any], Any]:
    """Return the predictions for an object, or a list of them, that has the columns by name."""
    import pandas as pd

    return lambda sent: model.predict(pd.DataFrame(sent if isinstance(sent, list) else [sent]))


def by_rows(model: Any) -> Callable[[Any], Any]:
    """Return the predictions for the rows under `features`."""
    return lambda sent: model.predict(np.array(sent["features"]))
