"""Results of statsmodels' time series models: the steps to forecast in, the forecast with its intervals out.

    {"steps": 12}                                              the next 12 values
    {"steps": 2, "exog": [{"promo": 1}, {"promo": 0}]}         with one row of regressors for each step
    {"steps": 12, "alpha": 0.2}                                with intervals of 80 % instead of 95 %

An answer has one row for each step: its index, the mean, and the bounds of its interval; of each series, if there are
several.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, NoReturn, Optional

import msgspec
import numpy as np

from model_container.adapters.base import Inputs, Outputs, tensor
from model_container.bodies.content import Content, Named
from model_container.bodies.json_dialects import content_of
from model_container.bodies.numeric_fast_path import PlainRows
from model_container.bodies.problems import Problem, shown
from model_container.bodies.table import LISTED, Column, Table, wrong_columns
from model_container.bodies.values import array_of

STEPS, EXOG, ALPHA = "steps", "exog", "alpha"
INDEX, MEAN, LOWER, UPPER = "index", "mean", "lower", "upper"
MAX_STEPS = 5000
USUAL_ALPHA = 0.05
_PATHS = 1000
"""Number of simulated paths from which the intervals of Holt-Winters models are taken: they have no formula."""
_SEED = 0
_SAMPLE_STEPS = 3


class Forecast(NamedTuple):
    """Forecast of one or several series. means: (steps,) or (steps, series), with an index if the model has one.

    bounds: (steps, 2 × series): all lower ones, then all upper ones. index: of the steps, where `means` has none.
    """

    means: Any
    bounds: Any
    index: Any = None


def is_forecaster(held: Any) -> bool:
    """Return whether the unpickled object forecasts from where its training data ends."""
    return type(held).__module__.startswith("statsmodels.tsa.") and _way(held) is not None


class ForecastAdapter:
    """Adapter for results that forecast. Raises TypeError if they were saved without the data to start from."""

    joinable = False
    has_probabilities = False
    plain: Optional[PlainRows] = None

    def __init__(self, results: Any) -> None:
        model = results.model
        if getattr(model, "endog", ()) is None:
            raise TypeError(
                "the results were saved without their data (remove_data=True), after which no forecast can start; "
                "save them with results.save(path)"
            )
        if getattr(model, "exog_coint", None) is not None:
            raise TypeError(
                "the model has regressors in its cointegration relation (exog_coint), whose future values a request "
                "cannot give; fit it with exog instead"
            )
        way = _way(results)
        assert way is not None  # see is_forecaster
        self._forecast = way
        self._results = results
        self._regressors = _regressors(model)
        self._series = _series(model)
        self._length = len(getattr(model, "endog", ()))
        self.names: FrozenSet[str] = frozenset((STEPS, ALPHA, EXOG) if self._regressors else (STEPS, ALPHA))
        self.classes: List[Any] = []

    def plain_inputs(self, matrix: Any) -> NoReturn:
        raise NotImplementedError("it does not take plain rows")

    def inputs(self, content: Content) -> Inputs:
        values = self._by_name(content)
        steps = _steps(values[STEPS])
        arrays = [np.array([steps]), np.array([_alpha(values.get(ALPHA))])]
        if self._regressors:
            arrays.append(self._exog(values[EXOG], steps))
        return Inputs(arrays, alone=True)

    def _by_name(self, content: Content) -> Dict[str, Any]:
        """Return the request's values by name. Raises Problem for unknown names, or if a required one is missing."""
        if not isinstance(content, Named):
            words = "The request has rows of values, but this model takes the number of steps to forecast."
            raise Problem(422, "unknown_dialect", words, self._example())
        values = content.values
        required = self.names - {ALPHA}
        if not self.names.issuperset(values):
            raise wrong_columns(sorted(required | (self.names & values.keys()), reverse=True), list(values))
        missing = sorted(required.difference(values), reverse=True)
        if missing:
            listing = " and ".join(map(repr, missing))
            raise Problem(422, "wrong_columns", f"The request lacks {listing}.", self._example(), missing=missing)
        return values

    def _example(self) -> str:
        return f"Send {msgspec.json.encode(self.samples()[0]).decode()}."

    def _exog(self, value: Any, steps: int) -> Any:
        """Convert the regressors to a (steps, regressors) array."""
        assert self._regressors is not None
        is_wrapped = isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)
        if is_wrapped and value[0] and isinstance(value[0][0], (list, dict)):  # the only record of a table
            value = value[0]
        (matrix,) = self._regressors.arrays(content_of(value, repr(EXOG)))
        if len(matrix) != steps:
            raise Problem(
                422,
                "wrong_shape",
                f"{EXOG!r} has {len(matrix)} rows for {steps} steps.",
                "Give the regressors one row for each step.",
                expected=steps,
                got=len(matrix),
            )
        for row, column in np.argwhere(np.isnan(matrix)).tolist():
            name = self._regressors.names[column]
            raise Problem(
                422,
                "missing_value",
                f"Row {row}, column {name!r} of {EXOG!r} holds null; a forecast takes no missing values.",
                row=row,
                column=name,
            )
        return matrix

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        steps, alpha, *exog = inputs.arrays
        means, bounds, index = self._forecast(self._results, int(steps[0]), float(alpha[0]), *exog)
        if index is None:
            index = getattr(means, "index", range(self._length, self._length + int(steps[0])))
        columns = np.asarray(means, np.float64).reshape(len(means), -1)
        columns = np.column_stack([columns, np.asarray(bounds, np.float64)])
        return Outputs({INDEX: _written(index), **dict(zip(self._columns(), columns.T))}, named=True, counted=False)

    def _columns(self) -> List[str]:
        """Return the names of the outputs behind the index: plain ones for one series, else with the series in front."""
        if len(self._series) == 1:
            return [MEAN, LOWER, UPPER]
        return [f"{series}_{name}" for name in (MEAN, LOWER, UPPER) for series in self._series]

    def signature(self) -> Dict[str, Any]:
        exog = [] if self._regressors is None else [tensor(EXOG, "FP64", [-1, len(self._regressors.columns)])]
        index = [tensor(INDEX, "BYTES", [-1])]
        return {
            "kind": "tensors",
            "inputs": [tensor(STEPS, "INT64", []), *exog, {**tensor(ALPHA, "FP64", []), "optional": True}],
            "outputs": index + [tensor(name, "FP64", [-1]) for name in self._columns()],
            "named": True,
            "methods": ["predict"],
            "classes": [],
        }

    def samples(self) -> List[Any]:
        if self._regressors is None:
            return [{STEPS: _SAMPLE_STEPS}]
        row = np.asarray(self._results.model.exog)[-1, -len(self._regressors.columns) :].tolist()
        last = dict(zip(self._regressors.names, row)) if self._regressors.named else row
        return [{STEPS: _SAMPLE_STEPS, EXOG: [last] * _SAMPLE_STEPS}]


def _way(held: Any) -> Optional[Callable[..., Forecast]]:
    """Return the function that forecasts with these results, or None."""
    if callable(getattr(held, "forecast_interval", None)):
        return _vector_autoregression  # whose `forecast` takes the last observations first
    if _takes_steps(held, "predict"):
        return _error_correction
    if not _takes_steps(held, "forecast"):
        return None
    return next((way for method, way in _WAYS.items() if callable(getattr(held, method, None))), None)


def _takes_steps(held: Any, name: str) -> bool:
    """Return whether a method of these results is asked for a number of steps first."""
    method = getattr(held, name, None)
    return callable(method) and next(iter(inspect.signature(method).parameters), "") == STEPS


def _vector_autoregression(results: Any, steps: int, alpha: float, exog: Any = None) -> Forecast:
    last = results.model.endog[-results.k_ar :]
    return _of_vectors(results.model, results.forecast_interval(last, steps, alpha=alpha, exog_future=exog))


def _error_correction(results: Any, steps: int, alpha: float, exog: Any = None) -> Forecast:
    return _of_vectors(results.model, results.predict(steps, alpha=alpha, exog_fc=exog))


def _of_vectors(model: Any, forecast: Any) -> Forecast:
    """Return a forecast of several series. forecast: means, lower and upper bounds, each (steps, series)."""
    means, lower, upper = forecast
    start = len(model.endog)
    index = model._get_prediction_index(start, start + len(means) - 1)[3]  # of the base class of all these models
    return Forecast(means, np.column_stack([lower, upper]), index)


def _state_space(results: Any, steps: int, alpha: float, exog: Any = None) -> Forecast:
    forecast = results.get_forecast(steps) if exog is None else results.get_forecast(steps, exog=exog)
    return Forecast(forecast.predicted_mean, forecast.conf_int(alpha=alpha))


def _theta(results: Any, steps: int, alpha: float) -> Forecast:
    return Forecast(results.forecast(steps), results.prediction_intervals(steps, alpha=alpha))


def _prediction(results: Any, steps: int, alpha: float, exog: Any = None) -> Forecast:
    start = len(results.model.endog)
    more = {} if exog is None else {"exog_oos": exog}
    frame = results.get_prediction(start, start + steps - 1, **more).summary_frame(alpha=alpha)
    return Forecast(frame["mean"], frame.iloc[:, -2:])


def _holt_winters(results: Any, steps: int, alpha: float) -> Forecast:
    """Forecast with intervals of simulated paths. The seed is fixed, so that equal requests have equal answers."""
    source = "rng" if "rng" in inspect.signature(results.simulate).parameters else "random_state"
    paths = np.asarray(results.simulate(steps, repetitions=_PATHS, **{source: np.random.RandomState(_SEED)})).reshape(
        steps, _PATHS
    )
    bounds = np.quantile(paths, [alpha / 2, 1 - alpha / 2], axis=1).T
    return Forecast(results.forecast(steps), bounds)


_WAYS: Dict[str, Callable[..., Forecast]] = {
    "get_forecast": _state_space,
    "prediction_intervals": _theta,
    "get_prediction": _prediction,
    "simulate": _holt_winters,
}
"""Readers of the intervals by the method that gives them; the first that the results have is used."""


def _regressors(model: Any) -> Optional[Table]:
    """Return the columns of the regressors, None if there are none. Behind those of a trend they are the last ones."""
    exog = getattr(model, "exog", None)
    count = getattr(model, "k_exog", None)
    count = (0 if exog is None else np.asarray(exog).shape[1]) if count is None else int(count)
    if not count:
        return None
    if hasattr(model.data.orig_exog, "columns"):
        return Table([Column(str(name)) for name in model.data.orig_exog.columns[-count:]], named=True)
    return Table([Column(f"exog{index + 1}") for index in range(count)], named=False)


def _series(model: Any) -> List[str]:
    names = getattr(model, "endog_names", "")
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else [str(names)]


def _single(name: str, value: Any, datatype: str) -> Any:
    """Convert a value that may come as a list or an array of one."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, LISTED):
        raise Problem(
            422, "wrong_shape", f"{name!r} holds {len(value)} values, not one.", "Send one forecast at a time."
        )
    return array_of([value], datatype, lambda _: (f"{name!r}", {"input": name}))[0]


def _steps(value: Any) -> int:
    steps = int(_single(STEPS, value, "INT64"))
    if not 1 <= steps <= MAX_STEPS:
        raise _out_of_range(STEPS, steps, f"Forecast 1 to {MAX_STEPS} steps.")
    return steps


def _alpha(value: Any) -> float:
    if value is None:
        return USUAL_ALPHA
    alpha = float(_single(ALPHA, value, "FP64"))
    if not 0 < alpha < 1:
        raise _out_of_range(ALPHA, alpha, "An alpha between 0 and 1 is the share outside the interval: 0.05 for 95 %.")
    return alpha


def _out_of_range(name: str, value: Any, hint: str) -> Problem:
    return Problem(422, "number_out_of_range", f"{name!r} is {shown(value)}.", hint, input=name)


def _written(index: Any) -> List[Any]:
    """Return the index as text or numbers: dates in ISO 8601, without a time if none of them has one."""
    if not hasattr(index, "strftime"):
        return list(index)
    if hasattr(index, "to_timestamp"):  # periods write themselves as 2026-01 or 2026Q1
        return [str(period) for period in index]
    is_midnight = index.tz is None and bool((index == index.normalize()).all())
    return [date.date().isoformat() if is_midnight else date.isoformat() for date in index]
