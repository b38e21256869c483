"""One classifier, trained once, for the routes to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from model_container.adapters.estimator import EstimatorAdapter
from tests.unit.protocols.gateway import Gateway, gateway


@pytest.fixture(scope="session")
def iris() -> Any:
    data = load_iris()
    return LogisticRegression(max_iter=1000).fit(data.data, data.target_names[data.target])


@pytest.fixture
async def here(tmp_path: Path, iris: Any) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path, EstimatorAdapter(iris)) as made:
        yield made
