"""An A/B experiment of two real versions: sticky callers, feedback, results, and the end for a winner."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx2
import joblib
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor

from prism import AsyncPrism, Prism
from prism.errors import APIError, NotFoundError
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, problem, wait_for

PRICES = {"1.0.0": 10.0, "2.0.0": 12.0}
CALLERS = [f"user-{number}" for number in range(80)]


@pytest.fixture(scope="module")
def server(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A model of prices with two versions: one live, one beside."""
    folder = tmp_path_factory.mktemp("models")
    server = module_server(PRISM_TARGET="process")
    for version, price in PRICES.items():
        path = folder / f"price-{version}.joblib"
        joblib.dump(
            DummyRegressor(strategy="constant", constant=price).fit(pd.DataFrame({"size": [1.0]}), [price]), path
        )
        server.deploy(path, model_name="price", version=version, traffic="none" if version == "2.0.0" else "all")
    return server


def prism(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prism.cli", *arguments, "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def asked(server: Server, headers: dict[str, str], **more: Any) -> httpx2.Response:
    answer = server.http.post("/models/price/predict", json={"size": 1.0, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == [PRICES[answer.headers["x-model-version"]]]
    return answer


def test_callers_keep_their_version_report_feedback_and_a_winner_takes_all(server: Server) -> None:
    with Prism(server.url) as client:
        experiment = client.create_experiment("price", variants={"1.0.0": 50, "2.0.0": 50})
        assert (experiment.state, experiment.split) == ("running", {"1.0.0": 50.0, "2.0.0": 50.0})
        answers = {key: client.predict("price", {"size": 1.0}, key=key) for key in CALLERS}
        met = {key: answer.version for key, answer in answers.items()}
        assert set(met.values()) == {"1.0.0", "2.0.0"}

        server.kill()
        server.start()
        wait_for(lambda: client.experiment("price").state == "running", 60, "the experiment after a restart")
        again = {key: asked(server, {"X-Prism-Key": key}) for key in CALLERS}
        assert {key: answer.headers["x-model-version"] for key, answer in again.items()} == met
        assert (
            problem(
                server.http.post(
                    "/feedback", json={"request_id": answers["user-0"].request_id, "metric": "sale", "value": 1}
                )
            )["status"]
            == 404
        ), "it is of the gateway that was killed"

        for number, (key, answer) in enumerate(again.items()):
            told = client.feedback(
                "basket", number % 10 + 20 * (met[key] == "2.0.0"), request_id=answer.headers["x-request-id"]
            )
            assert told.version == met[key]
            assert client.feedback("visits", 1, key=key).version == met[key]
        found = experiment.results()
        assert sum(variant.keys for variant in found.variants) == len(CALLERS)
        basket = found.metrics["basket"]
        assert (basket.outcome, basket.winner) == ("winner", "2.0.0")
        interval = basket.variants[1].interval
        assert interval is not None
        assert 0 < interval.low < 20 < interval.high
        assert found.metrics["visits"].outcome == "no winner yet"

        refused = server.http.post("/deployments/canary", json={"name": "price", "candidate_version": "2.0.0"})
        assert problem(refused)["rollout"] == experiment.id
        assert problem(server.http.post("/models/price@2.0.0/stop"))["rollout"] == experiment.id

        assert experiment.stop("2.0.0").state in ("promoted", "done")
        wait_for(lambda: experiment.refresh().state == "done", 60, "the end of the experiment")
        assert {client.predict("price", {"size": 1.0}, key=key).version for key in CALLERS[:20]} == {"2.0.0"}
        assert server.model("price@1.0.0")["status"] == "stopped"
        assert experiment.stop("2.0.0").state == "done"
        with pytest.raises(APIError, match="is done already"):
            experiment.stop("1.0.0")
        with pytest.raises(NotFoundError, match="No experiment is running"):
            client.feedback("sale", 1, key="user-0")
        events = server.http.get(f"/deployments/{experiment.id}/events", params={"follow": "false"}).json()["events"]
        assert [event["what"] for event in events] == ["pending", "running", "promoted", "done"]


def test_a_stopped_version_is_started_for_an_experiment_by_a_member_of_the_body(server: Server) -> None:
    live = server.model("price")["version"]
    begun = prism(
        server, "ab", "start", "price", "--variant", "1.0.0=1", "--variant", "2.0.0=3", "--key", "body:user_id"
    )
    assert begun.returncode == 0, begun.stderr
    wait_for(
        lambda: " running " in prism(server, "ab", "results", "price", "--json").stdout.replace('"', " "), 60, "it"
    )
    met = [{asked(server, {}, user_id=key).headers["x-model-version"] for _ in range(3)} for key in range(12)]
    assert all(len(versions) == 1 for versions in met)
    shown = prism(server, "ab", "results", "price")
    assert "no feedback was reported yet" in shown.stdout
    stopped = prism(server, "ab", "stop", "price")
    assert stopped.returncode == 0, stopped.stderr
    wait_for(lambda: prism(server, "ab", "stop", "price").stdout.find(" done ") > 0, 60, "the end")
    assert server.model("price")["version"] == live


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"variants": {"1.0.0": 1}}, 400, "2 to 20 variants"),
        ({"variants": {"1.0.0": 1, "9.0.0": 1}}, 404, "has no version `9.0.0`"),
        ({"variants": {"1.0.0": 1, "2.0.0": -1}}, 400, "must be above 0"),
        ({"variants": {"1.0.0": 1, "2.0.0": 1}, "key": "cookie"}, 400, "`cookie` does not say"),
        ({"name": "prise", "variants": {"1.0.0": 1, "2.0.0": 1}}, 404, "Did you mean `price`?"),
    ],
)
def test_what_makes_no_sense_is_refused(server: Server, wanted: dict[str, Any], status: int, said: str) -> None:
    told = problem(server.http.post("/api/v1/deployments/ab", json={"name": "price", **wanted}))
    assert told["status"] == status
    assert said in f"{told['detail']} {told.get('hint', '')}"


def test_feedback_about_an_unknown_request_is_not_found(server: Server) -> None:
    async def report() -> None:
        async with AsyncPrism(server.url) as client:
            await client.feedback("sale", 1, request_id="unknown")

    with pytest.raises(NotFoundError, match="The request `unknown` is not known to any experiment"):
        asyncio.run(report())
