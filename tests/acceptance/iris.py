"""Requests for the iris model of the acceptance tests."""

from __future__ import annotations

ROW = {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}
