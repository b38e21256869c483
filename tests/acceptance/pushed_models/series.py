"""Models of statsmodels: regressions and forecasts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.tsa.arima.model import ARIMA
from statsmodels.tsa.holtwinters import ExponentialSmoothing
from statsmodels.tsa.statespace.sarimax import SARIMAX
from statsmodels.tsa.vector_ar.var_model import VAR

from tests.acceptance.pushed_models.kinds import Made, makes

RNG = np.random.default_rng(0)
MONTHS = pd.date_range("2020-01-01", periods=48, freq="MS")
SALES = pd.Series(
    100 + np.arange(48) + 9 * np.sin(np.arange(48) * np.pi / 6) + RNG.normal(size=48), MONTHS, name="sales"
)
PROMO = pd.DataFrame({"promo": np.arange(48) % 2.0, "price": np.arange(48) % 7.0}, index=MONTHS)
SHOP = pd.DataFrame({"visits": SALES * 7 + RNG.normal(size=48), "sales": SALES})
HOUSES = pd.DataFrame({"area": np.arange(20.0, 60), "age": RNG.integers(0, 90, 40)})
PRICES = HOUSES["area"] * 3 - HOUSES["age"] + RNG.normal(size=40)


def forecast(frame: Any) -> list[dict[str, Any]]:
    """The rows of a summary of statsmodels as PRISM answers them."""
    values = frame[["mean", "mean_ci_lower", "mean_ci_upper"]].itertuples()
    return [{"index": str(row[0].date()), "mean": row[1], "lower": row[2], "upper": row[3]} for row in values]


@makes("sales.pkl")
def sales() -> Made:
    results = ARIMA(SALES, order=(1, 1, 1)).fit()
    return Made({"results": results}, lambda sent: forecast(results.get_forecast(sent["steps"]).summary_frame()))


@makes("promotions.joblib")
def promotions() -> Made:
    results = SARIMAX(SALES, exog=PROMO, order=(1, 0, 0)).fit(disp=False)

    def answer(sent: Any) -> Any:
        given = results.get_forecast(sent["steps"], exog=pd.DataFrame(sent["exog"])[["promo", "price"]].to_numpy())
        return forecast(given.summary_frame(alpha=sent["alpha"]))

    return Made({"results": results}, answer)


@makes("seasons.pkl")
def seasons() -> Made:
    """Its intervals are simulated: only the means are compared."""
    results = ExponentialSmoothing(SALES, trend="add", seasonal="add", seasonal_periods=12).fit()
    return Made({"results": results}, lambda sent: [{"mean": mean} for mean in results.forecast(sent["steps"])])


@makes("shop.pkl")
def shop() -> Made:
    results = VAR(SHOP).fit(2)

    def answer(sent: Any) -> Any:
        bounds = results.forecast_interval(SHOP.to_numpy()[-2:], sent["steps"])
        months = pd.date_range("2024-01-01", periods=sent["steps"], freq="MS")
        return [
            {"index": str(month.date())}
            | {
                f"{name}_{what}": part[step][column]
                for what, part in zip(("mean", "lower", "upper"), bounds, strict=True)
                for column, name in enumerate(SHOP.columns)
            }
            for step, month in enumerate(months)
        ]

    return Made({"results": results}, answer)


@makes("houses.pkl")
def houses() -> Made:
    results = sm.OLS(PRICES, sm.add_constant(HOUSES)).fit()
    return Made({"results": results}, lambda sent: results.predict(pd.DataFrame([sent])[["const", "area", "age"]]))


@makes("houses-formula.pkl")
def houses_formula() -> Made:
    results = smf.ols("price ~ area + np.log(area)", HOUSES.assign(price=PRICES)).fit()
    return Made({"results": results}, lambda sent: results.predict(pd.DataFrame([sent])))
