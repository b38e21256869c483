"""A model from memory is registered twice, as a reader would start: the second version waits, also across restarts."""

from __future__ import annotations

import signal

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from prism import Prism
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import wait_for

PAYMENT = {"amount": 200, "merchant": "Acme"}
SECONDS = 120


def trained(trees: int) -> Pipeline:
    payments = pd.DataFrame({"amount": [20, 200, 30, 900] * 5, "merchant": ["Acme", "Zed", "Acme", "Zed"] * 5})
    columns = make_column_transformer((OneHotEncoder(), ["merchant"]), remainder="passthrough")
    return make_pipeline(columns, RandomForestClassifier(trees, random_state=0)).fit(payments, [0, 1, 0, 1] * 5)


def test_the_second_version_of_a_model_from_memory_waits_for_its_traffic(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process")
    with Prism(server.url) as client:
        client.register_model(
            name="fraud-detector", model_object=trained(5), framework="sklearn", metadata={"trained_on": "2026-Q1"}
        )
        second = client.register_model("fraud-detector", model_object=trained(9), framework="sklearn")
        assert (second.version, second.status, second.traffic, second.parent) == ("2.0.0", "live", "none", "1.0.0")

        def answering(ref: str = "fraud-detector") -> str:
            return client.predict(ref, inputs=PAYMENT).version

        def both_live() -> bool:
            return [version.status for version in client.versions("fraud-detector")] == ["live", "live"]

        assert (answering(), answering("fraud-detector@2.0.0")) == ("1.0.0", "2.0.0")
        rows = client.predict_batch("fraud-detector", [PAYMENT, {"amount": 900, "merchant": "Zed"}])
        assert rows.predictions == [0, 1]

        for end in (lambda: server.stop(signal.SIGTERM), server.kill):  # the models end with it, or outlive it
            end()
            server.start()
            wait_for(both_live, SECONDS, "both versions live again")
            assert {answering() for _ in range(5)} == {"1.0.0"}
            assert answering("fraud-detector@2.0.0") == "2.0.0"

        assert client.models.start("fraud-detector@2.0.0").traffic == "all"
        assert answering() == "2.0.0"
        assert client.rollback("fraud-detector").version == answering() == "1.0.0"
