"""Models of XGBoost, LightGBM and CatBoost."""

from __future__ import annotations

import catboost
import lightgbm
import numpy as np
import pandas as pd
import xgboost

from tests.acceptance.pushed_models.kinds import Made, by_names, makes

RNG = np.random.default_rng(6)
PAYMENTS = pd.DataFrame({"amount": RNG.integers(1, 900, 200), "hour": RNG.integers(0, 24, 200)})
IS_FRAUD = ((PAYMENTS["amount"] > 500) & (PAYMENTS["hour"] < 6)).astype(int)
ORDERS = PAYMENTS.assign(country=pd.Categorical(RNG.choice(["NO", "SE", "DK"], 200)))
DAYS = PAYMENTS["amount"] * 0.01 + (ORDERS["country"] == "NO") * 2


@makes("fraud.pkl", "fraud-own.json", "fraud-own.ubj")
def fraud() -> Made:
    model = xgboost.XGBClassifier(n_estimators=10).fit(PAYMENTS, IS_FRAUD)
    return Made({"model": model}, by_names(model))


@makes("risk.ubj")
def risk() -> Made:
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(PAYMENTS, label=IS_FRAUD), 5)
    return Made({"booster": booster}, lambda sent: booster.predict(xgboost.DMatrix(pd.DataFrame([sent]))))


@makes("delivery.joblib", "delivery-own.txt")
def delivery() -> Made:
    model = lightgbm.LGBMRegressor(n_estimators=10, verbose=-1).fit(ORDERS, DAYS)
    kinds = ORDERS["country"].dtype
    return Made({"model": model}, lambda sent: model.predict(pd.DataFrame([sent]).astype({"country": kinds})))


@makes("stock.cbm", "stock-pickled.pkl")
def stock() -> Made:
    frame = ORDERS.astype({"country": str})
    model = catboost.CatBoostClassifier(iterations=10, verbose=0, allow_writing_files=False, cat_features=["country"])
    model.fit(frame, np.where(DAYS > 5, "late", "early"))
    return Made({"model": model}, by_names(model))
