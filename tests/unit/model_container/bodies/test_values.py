"""Conversion of values to arrays, as far as no dialect's own test shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_container.bodies.values import ANY, array_of


@pytest.mark.parametrize("values", [[True, False], [1, 2], [1.5, 2.0], ["a", "b"]])
def test_an_array_in_a_column_of_any_datatype_is_what_its_list_is(values: list[Any]) -> None:
    def place(index: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
        return f"Row {index[0]}", {}

    given = np.array(values, object) if isinstance(values[0], str) else np.array(values)
    from_array, from_list = array_of(given, ANY, place), array_of(values, ANY, place)
    assert (from_array.dtype, from_array.tolist()) == (from_list.dtype, from_list.tolist())
