from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ui.prediction_view import MAX_BARS, MAX_ROWS, PredictionView, cell, prediction_view, timings_of


def view_of(predictions: list[Any], **more: Any) -> PredictionView:
    return prediction_view({"model": "iris", "predictions": predictions, **more})


def test_one_value_is_shown_alone() -> None:
    view = view_of(["setosa"])
    assert view.single
    assert view.rows[0].cells == ("setosa",)
    assert "setosa" in view.raw


def test_rows_are_counted_from_0_and_outputs_are_columns() -> None:
    view = view_of([{"low": 1, "high": [2.5, None]}, {"low": 3, "high": [4, 5]}])
    assert view.columns == ("low", "high")
    assert [(row.number, row.cells) for row in view.rows] == [(0, ("1", "[2.5, null]")), (1, ("3", "[4, 5]"))]
    assert not view.single


def test_objects_that_differ_are_cells_of_one_column() -> None:
    assert view_of([{"a": 1}, {"b": 2}]).rows[1].cells == ('{"b": 2}',)


def test_only_the_first_of_many_rows_are_shown() -> None:
    view = view_of(list(range(MAX_ROWS + 5)))
    assert len(view.rows) == MAX_ROWS
    assert view.hidden_rows == 5


def test_a_long_value_says_how_long_it_is() -> None:
    assert cell([[0.125] * 500] * 3).endswith("… (1,500 values)")
    assert cell("x" * 1000).endswith("… (1,000 characters)")
    assert len(cell(list(range(10_000)))) < 300


def test_classes_are_bars_the_likeliest_first() -> None:
    view = view_of(["b"], probabilities=[[0.2, 0.75, 0.05]], classes=["a", "b", "c"])
    (bars,) = view.rows[0].bars
    assert [(bar.label, bar.width, bar.percent) for bar in bars.bars] == [
        ("b", 75.0, "75%"),
        ("a", 20.0, "20%"),
        ("c", 5.0, "5%"),
    ]
    assert bars.hidden == 0


def test_only_the_likeliest_of_many_classes_are_shown() -> None:
    shares = [number / 1000 for number in range(50)]
    (bars,) = view_of([1], probabilities=[shares], classes=list(range(50))).rows[0].bars
    assert len(bars.bars) == MAX_BARS
    assert bars.bars[0].label == "49"
    assert bars.hidden == 30


def test_each_of_several_outputs_has_its_own_bars() -> None:
    view = view_of([[0, "x"]], probabilities=[[[0.5, 0.5], [0.1, 0.9]]], classes=[[0, 1], ["x", "y"]])
    assert [(bars.title, [bar.label for bar in bars.bars]) for bars in view.rows[0].bars] == [
        ("Output 1", ["0", "1"]),
        ("Output 2", ["y", "x"]),
    ]


@pytest.mark.parametrize(
    "shares", [[[None, 1.0]], [["a", "b"]], [[2.0, -1.0]], [[]], [None], [0.5], [[1.0]], [[[]]], [[[1.0], None]]]
)
def test_malformed_probabilities_do_not_break_the_page(shares: list[Any]) -> None:
    for group in view_of(["b"], probabilities=shares, classes=["a", "b"]).rows[0].bars:
        assert all(0 <= bar.width <= 100 for bar in group.bars)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=12,
)


@given(predictions=st.lists(JSON, max_size=5), shares=st.lists(JSON, max_size=5), classes=st.lists(JSON, max_size=4))
def test_whatever_a_model_answers_can_be_shown(predictions: list[Any], shares: list[Any], classes: list[Any]) -> None:
    view = view_of(predictions, probabilities=shares, classes=classes)
    assert len(view.rows) == len(predictions)
    assert all(len(row.cells) == len(view.columns) for row in view.rows)


def test_durations_are_read_from_server_timing() -> None:
    assert timings_of('queue;dur=0.12, batch;desc="3", inference;dur=4.50') == {"queue": 0.12, "inference": 4.5}
    assert timings_of("") == {}
    assert timings_of("x;dur=abc, y") == {}


def test_the_best_classes_of_an_image_are_drawn() -> None:
    shares = [0.0, 0.02, 0.7, 0.03, 0.05, 0.1, 0.1]
    (row,) = prediction_view({"predictions": [shares]}, of_files=True).rows
    assert row.cells == ("2",)
    (bars,) = row.bars
    assert [(bar.label, bar.percent) for bar in bars.bars][:2] == [("2", "70%"), ("5", "10%")]
    assert (len(bars.bars), bars.hidden) == (5, 2)


def test_scores_of_an_image_that_are_no_shares_are_drawn_from_the_lowest_to_the_highest() -> None:
    (row,) = prediction_view({"predictions": [[-2.0, 8.0, 3.0]]}, of_files=True).rows
    (bars,) = row.bars
    assert (row.cells, bars.title) == (("1",), "Scores")
    assert [(bar.label, bar.width, bar.percent) for bar in bars.bars] == [
        ("1", 100, "8"),
        ("2", 50, "3"),
        ("0", 0, "-2"),
    ]


@pytest.mark.parametrize("predictions", [[], [7], [[]], [[1.0]], [["a", "b"]], [[[1.0, 2.0]]], [[1.0, None]], [[1, 1]]])
def test_other_answers_to_an_image_are_shown(predictions: list[Any]) -> None:
    assert len(prediction_view({"predictions": predictions}, of_files=True).rows) == len(predictions)


def test_a_list_of_numbers_is_not_taken_for_scores_where_the_input_is_no_image() -> None:
    assert view_of([[0.2, 0.8]]).rows[0].cells == ("[0.2, 0.8]",)
