"""Register two versions of a model: the first takes the requests, the second waits beside it.

    prism run
    python examples/register.py

Needs scikit-learn and pandas. PRISM_URL is the server; default: the one on this machine.
"""

from __future__ import annotations

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from prism import Prism

payments = pd.DataFrame(
    {
        "amount": [12, 30, 950, 1200, 45, 2200, 80, 1750] * 10,
        "merchant": ["Acme", "Borg", "Borg", "Cyan", "Acme", "Cyan", "Acme", "Borg"] * 10,
    }
)
is_fraud = [0, 0, 1, 1, 0, 1, 0, 1] * 10


def trained(trees: int) -> Pipeline:
    merchants = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["merchant"]), remainder="passthrough")
    return make_pipeline(merchants, RandomForestClassifier(trees, random_state=0)).fit(payments, is_fraud)


with Prism() as client:
    for trees in (10, 50):
        version = client.register_model(
            name="fraud-detector",
            model_object=trained(trees),
            framework="sklearn",
            metadata={"trained_on": "2026-Q1", "trees": trees},
        )
        print(f"{version.ref} is {version.status}")

    payment = {"amount": 200, "merchant": "Acme"}
    prediction = client.predict("fraud-detector", inputs=payment)
    print(f"{prediction.model}@{prediction.version} says {prediction.predictions[0]}")

    for each in client.versions("fraud-detector"):
        print(f"{each.version} has {each.share:.0%} of the requests")
