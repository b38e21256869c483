"""Forecasts: what a request may ask for. What statsmodels itself answers is in tests/acceptance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.forecast import MAX_STEPS, ForecastAdapter, is_forecaster
from model_container.batch import Batcher
from model_container.contract.frames import Request

MONTHS = pd.date_range("2024-01-01", periods=3, freq="MS")


class LastValue:
    """Results with the interface of statsmodels' state space models: the last value, plus twice the first regressor."""

    __module__ = "statsmodels.tsa.statespace.last_value"

    def __init__(self, index: Any, exog: Any = None) -> None:
        names = [] if exog is None else list(exog.columns)
        self.model = SimpleNamespace(
            endog=np.array([5.0, 6.0, 7.0]),
            endog_names="sales",
            exog=None if exog is None else np.column_stack([np.ones(3), exog]),
            exog_names=["const", *names],
            k_exog=len(names),
            data=SimpleNamespace(orig_exog=exog),
        )
        self._index = index

    def forecast(self, steps: int) -> Any:
        return self.get_forecast(steps).predicted_mean

    def predict(self, start: Any) -> Any:
        raise TypeError("it takes dates")

    def get_forecast(self, steps: int, exog: Any = None) -> Any:
        means = np.full(steps, 7.0) + (0 if exog is None else 2 * exog[:, 0])
        index = None if self._index is None else self._index[-1] + self._index.freq * np.arange(1, steps + 1)
        means = means if index is None else pd.Series(means, index)
        return SimpleNamespace(
            predicted_mean=means,
            conf_int=lambda alpha: np.column_stack([np.asarray(means) - alpha, np.asarray(means) + alpha]),
        )


class Autoregression:
    """Results with the interface of statsmodels' VAR: the last values of two series, plus the first regressor."""

    __module__ = "statsmodels.tsa.vector_ar.var_model"
    k_ar = 2

    def __init__(self, exog: Any = None) -> None:
        self.model = SimpleNamespace(
            endog=np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]),
            endog_names=["sales", "visits"],
            exog=None if exog is None else np.asarray(exog),
            exog_names=["const", "L1.sales", "L1.visits"],
            data=SimpleNamespace(orig_exog=exog),
            _get_prediction_index=lambda start, end: (
                0,
                0,
                0,
                pd.date_range("2024-04-01", periods=end - start + 1, freq="MS"),
            ),
        )

    def forecast(self, y: Any, steps: int) -> Any:
        raise TypeError("it takes the last values")

    def forecast_interval(self, y: Any, steps: int, alpha: float, exog_future: Any = None) -> Any:
        assert y.tolist() == [[2, 20], [3, 30]]
        means = np.repeat(y[-1:], steps, axis=0) + (0 if exog_future is None else exog_future[:, :1])
        return means, means - alpha, means + alpha


class ErrorCorrection(Autoregression):
    """Results with the interface of statsmodels' VECM, which has no method `forecast`."""

    __module__ = "statsmodels.tsa.vector_ar.vecm"
    forecast = forecast_interval = None  # type: ignore[assignment]

    def predict(self, steps: int, alpha: float, exog_fc: Any = None) -> Any:
        return Autoregression.forecast_interval(self, self.model.endog[-2:], steps, alpha, exog_fc)


REGRESSORS = pd.DataFrame({"promo": [0.0, 1.0, 1.0], "price": [8.0, 9.0, 10.0]})
PLAIN = ForecastAdapter(LastValue(MONTHS))
WITH_EXOG = ForecastAdapter(LastValue(MONTHS, REGRESSORS))


def answered(adapter: ForecastAdapter, body: Any) -> tuple[int, Any]:
    (answer,) = Batcher(adapter).run([Request(msgspec.json.encode(body))])[0]
    return answer.status, msgspec.json.decode(answer.body)


def test_results_that_forecast_are_told_from_those_that_only_predict() -> None:
    assert is_forecaster(LastValue(MONTHS))
    assert not is_forecaster(type("Regression", (), {"__module__": "statsmodels.regression", "predict": id})())
    assert not is_forecaster(EstimatorAdapter)


def test_the_answer_has_a_row_for_each_step() -> None:
    assert answered(PLAIN, {"steps": 2, "alpha": 0.5}) == (
        200,
        {
            "predictions": [
                {"index": "2024-04-01", "mean": 7.0, "lower": 6.5, "upper": 7.5},
                {"index": "2024-05-01", "mean": 7.0, "lower": 6.5, "upper": 7.5},
            ]
        },
    )


@pytest.mark.parametrize("results", [Autoregression, ErrorCorrection])
def test_of_several_series_each_has_its_own_interval(results: Any) -> None:
    assert is_forecaster(results())
    status, answer = answered(ForecastAdapter(results()), {"steps": 1, "alpha": 0.5})
    assert (status, answer["predictions"]) == (
        200,
        [
            {"index": "2024-04-01", "sales_mean": 3.0, "visits_mean": 30.0}
            | {"sales_lower": 2.5, "visits_lower": 29.5, "sales_upper": 3.5, "visits_upper": 30.5}
        ],
    )
    status, answer = answered(ForecastAdapter(results(REGRESSORS)), {"steps": 1, "exog": [{"price": 1, "promo": 2}]})
    assert (status, answer["predictions"][0]["sales_mean"]) == (200, 5.0)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (None, 3),
        (pd.period_range("2024-01", periods=3, freq="M"), "2024-04"),
        (pd.date_range("2024-01-01", periods=3, freq="h"), "2024-01-01T03:00:00"),
        (pd.date_range("2024-01-01", periods=3, freq="D", tz="Europe/Oslo"), "2024-01-04T00:00:00+01:00"),
    ],
)
def test_the_index_goes_on_where_that_of_the_training_ends(index: Any, expected: Any) -> None:
    status, answer = answered(ForecastAdapter(LastValue(index)), {"steps": 1})
    assert (status, answer["predictions"][0]["index"]) == (200, expected)


@pytest.mark.parametrize(
    "exog",
    [
        [{"price": 9, "promo": 3}],
        {"price": 9, "promo": 3},
        {"promo": [3], "price": [9]},
        [[3, 9]],
    ],
)
def test_regressors_go_by_name_or_in_the_order_of_the_training(exog: Any) -> None:
    for body in ({"steps": 1, "exog": exog}, {"inputs": {"steps": 1, "exog": exog}}):
        status, answer = answered(WITH_EXOG, body)
        assert (status, answer["predictions"][0]["mean"]) == (200, 13.0)


def test_the_sample_repeats_the_last_regressors_and_can_be_answered() -> None:
    (sample,) = WITH_EXOG.samples()
    assert sample == {"steps": 3, "exog": [{"promo": 1.0, "price": 10.0}] * 3}
    assert answered(WITH_EXOG, sample)[0] == 200


@pytest.mark.parametrize(
    ("adapter", "body", "code"),
    [
        (PLAIN, {"steps": 0}, "number_out_of_range"),
        (PLAIN, {"steps": MAX_STEPS + 1}, "number_out_of_range"),
        (PLAIN, {"steps": 10**30}, "number_out_of_range"),
        (PLAIN, {"steps": 1.5}, "not_an_integer"),
        (PLAIN, {"steps": "3"}, "not_a_number"),
        (PLAIN, {"steps": [1, 2]}, "wrong_shape"),
        (PLAIN, {"steps": []}, "wrong_shape"),
        (PLAIN, {"steps": 1, "alpha": 1}, "number_out_of_range"),
        (PLAIN, {"step": 1}, "wrong_columns"),
        (PLAIN, {"steps": 1, "exog": [[1]]}, "wrong_columns"),
        (PLAIN, [[1.0, 2.0]], "unknown_dialect"),
        (WITH_EXOG, {"steps": 1}, "wrong_columns"),
        (WITH_EXOG, {"steps": 2, "exog": [[1, 2]]}, "wrong_shape"),
        (WITH_EXOG, {"steps": 1, "exog": [[1, None]]}, "missing_value"),
        (WITH_EXOG, {"steps": 1, "exog": [{"promo": 1, "prize": 2}]}, "wrong_columns"),
        (WITH_EXOG, {"steps": 1, "exog": None}, "unknown_dialect"),
    ],
)
def test_what_cannot_be_forecast_is_told(adapter: ForecastAdapter, body: Any, code: str) -> None:
    status, told = answered(adapter, body)
    assert (status, told["code"]) == (422, code), told
    assert told["detail"]


def test_results_without_their_data_are_refused_with_the_way_to_save_them() -> None:
    results = LastValue(MONTHS)
    results.model.endog = None
    with pytest.raises(TypeError, match=r"remove_data=True.*save them with results.save"):
        ForecastAdapter(results)


def test_regressors_of_a_cointegration_are_refused_with_what_to_fit_instead() -> None:
    results = ErrorCorrection()
    results.model.exog_coint = np.ones((3, 1))
    with pytest.raises(TypeError, match="fit it with exog instead"):
        ForecastAdapter(results)
