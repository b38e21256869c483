"""Models of scikit-learn and of what extends it: tables, texts and images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from category_encoders import LeaveOneOutEncoder
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline as make_balanced_pipeline
from sklearn.cluster import KMeans
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA, LatentDirichletAllocation
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from tests.acceptance.pushed_models.kinds import Made, by_names, by_rows, makes

RNG = np.random.default_rng(5)
IRIS = load_iris()
MAILS = ["free money, click now", "win a prize now", "the minutes of our meeting", "lunch at noon?"] * 5
CLIENTS = pd.DataFrame({"age": RNG.integers(18, 80, 60), "plan": RNG.choice(["basic", "pro"], 60)})
FLATS = pd.DataFrame(
    {"area": RNG.integers(20, 150, 60), "rooms": RNG.integers(1, 6, 60), "floor": RNG.integers(0, 9, 60)}
)
RENTS = FLATS["area"] * 12.5 + FLATS["rooms"] * 50


def of_clients() -> Any:
    return make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["plan"]))


@makes("churn.joblib", "retention.skops")
def churn() -> Made:
    goes = np.where((CLIENTS["age"] < 40) & (CLIENTS["plan"] == "basic"), "leaves", "stays")
    model = make_pipeline(of_clients(), LogisticRegression()).fit(CLIENTS, goes)
    return Made({"model": model}, by_names(model))


@makes("rent.joblib")
def rent() -> Made:
    model = RandomForestRegressor(20, random_state=0).fit(FLATS, RENTS)
    return Made({"model": model}, by_names(model))


@makes("offers.joblib")
def offers() -> Made:
    numbers = make_column_transformer((StandardScaler(), make_column_selector(dtype_include=np.number)))
    search = GridSearchCV(make_pipeline(numbers, SVC()), {"svc__C": [1, 10]}, cv=3).fit(FLATS, RENTS > 1200)
    return Made({"search": search}, by_names(search))


@makes("two-targets.joblib")
def two_targets() -> Made:
    model = LinearRegression().fit(FLATS, np.c_[RENTS, FLATS["area"] * 3])
    return Made({"model": model}, by_names(model))


@makes("spam.pkl")
def spam() -> Made:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(MAILS, ["spam", "spam", "mail", "mail"] * 5)
    return Made({"model": model}, lambda sent: model.predict(sent["input"]))


@makes("topics.pkl")
def topics() -> Made:
    model = make_pipeline(CountVectorizer(), LatentDirichletAllocation(2, random_state=0)).fit(MAILS)
    return Made({"model": model}, lambda sent: model.transform(sent["input"]))


@makes("mood.pkl")
def mood() -> Made:
    model = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)), ComplementNB())
    model.fit(MAILS, ["good", "good", "calm", "calm"] * 5)
    return Made({"model": model}, lambda sent: model.predict(sent["input"]))


@makes("species.pkl", "species-cloud.pkl")
def species() -> Made:
    model = RandomForestClassifier(10, random_state=0).fit(IRIS.data, IRIS.target_names[IRIS.target])
    return Made({"model": model}, by_rows(model))


@makes("trips.pkl")
def trips() -> Made:
    rides = [{"km": float(km), "zone": zone} for km, zone in zip(range(20), ["north", "south"] * 10, strict=True)]
    model = make_pipeline(DictVectorizer(), Ridge()).fit(rides, [ride["km"] * 2 for ride in rides])
    return Made({"model": model}, lambda sent: model.predict([sent]))


@makes("segments.pkl")
def segments() -> Made:
    model = KMeans(3, n_init=1, random_state=0).fit(IRIS.data)
    return Made({"model": model}, by_rows(model))


@makes("outliers.joblib.gz")
def outliers() -> Made:
    model = IsolationForest(n_estimators=20, random_state=0).fit(IRIS.data)
    return Made({"model": model}, by_rows(model))


@makes("axes.pkl")
def axes() -> Made:
    model = make_pipeline(StandardScaler(), PCA(2)).fit(IRIS.data)
    return Made({"model": model}, lambda sent: model.transform(np.array(sent["features"])))


@makes("digits.joblib")
def digits() -> Made:
    pixels, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(pixels, labels)
    return Made({"model": model}, lambda sent: model.predict(sent["image"].reshape(1, 64)))


@makes("rare.pkl")
def rare() -> Made:
    is_rare = np.sort(RENTS)[-12] < RENTS
    model = make_balanced_pipeline(SMOTE(random_state=0), LogisticRegression(max_iter=2000)).fit(FLATS, is_rare)
    return Made({"model": model}, by_names(model))


@makes("plans.pkl")
def plans() -> Made:
    model = make_pipeline(LeaveOneOutEncoder(cols=["plan"]), Ridge()).fit(CLIENTS, CLIENTS["age"] * 2.0)
    return Made({"model": model}, by_names(model))


@makes("iris.onnx")
def iris() -> Made:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(IRIS.data, IRIS.target)
    return Made({"model": model, "rows": IRIS.data[:1].astype(np.float32)}, by_rows(model))
