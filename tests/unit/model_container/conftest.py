"""Small models, trained once a session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


@pytest.fixture(scope="session")
def matrix() -> Any:
    return np.random.default_rng(0).normal(size=(80, 4))


@pytest.fixture(scope="session")
def labels(matrix: Any) -> Any:
    return np.array(["no", "maybe", "yes"])[np.digitize(matrix[:, 0] + matrix[:, 1], [-0.7, 0.7])]


@pytest.fixture(scope="session")
def classifier(matrix: Any, labels: Any) -> LogisticRegression:
    return LogisticRegression().fit(matrix, labels)


@pytest.fixture(scope="session")
def regressor(matrix: Any) -> LinearRegression:
    """Two targets."""
    return LinearRegression().fit(matrix, matrix[:, :2] * 3 + 1)


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    cities = rng.choice(["berlin", "lagos", "lima"], 90).astype(object)
    cities[::11] = None
    age = rng.integers(18, 80, 90).astype(float)
    age[::7] = np.nan
    return pd.DataFrame({"age": age, "city": cities, "rooms": rng.integers(1, 4, 90)})


@pytest.fixture(scope="session")
def pipeline(frame: pd.DataFrame) -> Any:
    """Named columns of mixed types: imputed numbers, imputed strings, whole numbers as categories."""
    columns = ColumnTransformer(
        [
            ("age", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            (
                "city",
                make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=np.nan), OneHotEncoder()),
                ["city"],
            ),
            ("rooms", OneHotEncoder(), ["rooms"]),
        ]
    )
    wanted = np.where(frame["rooms"] > 1, "big", "small")
    return make_pipeline(columns, LogisticRegression()).fit(frame.replace({None: np.nan}), wanted)
