"""The examples, run as a reader would, and then the SDK and the commands of a canary on the same server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from prism import AsyncPrism, Prism, errors
from prism.cli import app
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "fraud-detector"
PAYMENT = {"amount": 200, "merchant": "Acme"}


@pytest.fixture(scope="module")
def server(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process", PRISM_ACCELERATE="off")


@pytest.fixture(scope="module")
def registered(server: Server) -> str:
    """What examples/register.py prints. The server has 1.0.0, which answers, and 2.0.0."""
    return run(server, "register.py")


@pytest.fixture
def client(server: Server, registered: str) -> Iterator[Prism]:
    with Prism(server.url) as client:
        yield client


def run(server: Server, example: str) -> str:
    environment = {**os.environ, "PRISM_URL": server.url}
    command = [sys.executable, str(EXAMPLES / example)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def prism(server: Server, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"PRISM_URL": server.url})


@contextmanager
def requests_to(server: Server) -> Iterator[None]:
    """Send requests all the while."""
    is_over = threading.Event()

    def send() -> None:
        with Prism(server.url) as client:
            while not is_over.wait(0.01):
                client.predict(NAME, PAYMENT)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def candidate_waits(client: Prism) -> None:
    """Have 2.0.0 run beside 1.0.0: a rollback stops it in the background."""
    wait_for(lambda: client.models.get(f"{NAME}@2.0.0").status in ("stopped", "live"), 60, "the end of the candidate")


def test_a_version_that_is_registered_waits_beside_the_first(registered: str) -> None:
    assert registered.splitlines() == [
        "fraud-detector@1.0.0 is live",
        "fraud-detector@2.0.0 is live",
        "fraud-detector@1.0.0 says 0",
        "1.0.0 has 100% of the requests",
        "2.0.0 has 0% of the requests",
    ]


def test_a_canary_goes_to_all_requests_and_back(server: Server, client: Prism) -> None:
    told = run(server, "canary.py").splitlines()
    assert told[0] == "<Canary fraud-detector running (1.0.0: 75 %, 2.0.0: 25 %)>"
    assert told[1] == "<Canary fraud-detector promoted (1.0.0: 0 %, 2.0.0: 100 %)>"
    whats = [line.split()[1] for line in told if line.count(":") > 2 and line[0].isdigit()]
    assert whats[0] == "pending:"
    assert whats.count("step:") == 2
    assert whats[-1] == "promoted:"
    assert told[-1] == "<Canary fraud-detector rolled_back (1.0.0: 100 %, 2.0.0: 0 %)>"
    assert client.predict(NAME, PAYMENT).version == "1.0.0"


def test_the_methods_of_the_client_say_what_the_api_says(server: Server, client: Prism) -> None:
    candidate_waits(client)
    begun = client.create_canary(name=NAME, candidate_version="2.0.0", initial_percentage=20, bake_seconds=600)
    with pytest.raises(errors.ConflictError) as refused:
        client.create_canary(name=NAME, candidate_version="2.0.0")
    assert refused.value.document["rollout"] == begun.id
    wait_for(lambda: begun.refresh().state == "running", 60, "the candidate's share")
    assert begun.split == {"1.0.0": 80.0, "2.0.0": 20.0}
    assert begun.wait(timeout_seconds=0) is begun
    paused = client.pause_canary(NAME)
    assert (paused.state, paused.reason) == ("paused", "paused at 20 %")
    assert client.resume_canary(NAME).state == "running"
    assert client.promote_canary(NAME).split["2.0.0"] == 100.0
    assert client.rollback_canary(NAME).state == "rolled_back"
    assert next(event.what for event in begun.events()) == "pending"
    assert client.rollouts(NAME)[0] == begun.refresh().rollout
    again = client.rollback_canary(NAME)
    assert again.rollout.generation == begun.rollout.generation, "a repeated call changes nothing"
    with pytest.raises(errors.NotFoundError, match="`nobody` has no canary"):
        client.promote_canary("nobody")


async def test_the_asynchronous_client_does_the_same(server: Server, client: Prism) -> None:
    candidate_waits(client)
    async with AsyncPrism(server.url) as other:
        begun = await other.create_canary(NAME, "2.0.0", 20, bake_seconds=600)
        assert begun.state in ("pending", "running")
        back = await other.rollback_canary(NAME)
        assert (back.id, back.state) == (begun.id, "rolled_back")
        events = [event async for new in begun.follow() for event in new]
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert events[-1].what == "rolled_back"
        assert (await begun.wait()).reason == "rolled back"
        assert (await other.rollouts(NAME))[0].id == begun.id


def test_the_commands_of_a_canary(server: Server, client: Prism) -> None:
    candidate_waits(client)
    start = ("canary", "start", NAME, "--candidate", "2.0.0", "--percent", "25", "--bake", "600")
    begun = prism(server, *start)
    assert begun.exit_code == 0, begun.output
    wait_for(lambda: client.canary(NAME).state == "running", 60, "the candidate's share")
    shown = prism(server, "canary", "status", NAME).stdout
    assert shown.startswith(f"{NAME} is running\n")
    assert f"1.0.0 {'█' * 30}{'░' * 10} 75 %\n" in shown
    assert f"2.0.0 {'█' * 10}{'░' * 30} 25 %\n" in shown
    assert "Limit     2 % bad" in shown
    assert json.loads(prism(server, "canary", "pause", NAME, "--json").stdout)["state"] == "paused"
    assert "is running" in prism(server, "canary", "resume", NAME).stdout
    promoted = prism(server, "canary", "promote", NAME)
    assert f"prism canary rollback {NAME}" in promoted.stderr
    assert "is rolled back" in prism(server, "canary", "rollback", NAME).stdout
    listed = prism(server, "canary", "status").stdout.splitlines()
    assert listed[1].split()[:3] == [NAME, "rolled_back", "2.0.0"]
    followed = prism(server, "canary", "status", NAME, "--follow", "--json")
    assert followed.exit_code == 1, "it did not make it"
    lines = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [line["what"] for line in lines[:-1]][:: len(lines) - 2] == ["pending", "rolled_back"]
    assert lines[-1]["state"] == "rolled_back"


def test_an_experiment_ends_with_the_version_that_sold_more(server: Server, client: Prism) -> None:
    candidate_waits(client)
    told = run(server, "ab.py").splitlines()
    assert told[0] == "<Experiment fraud-detector running (1.0.0: 50 %, 2.0.0: 50 %)>"
    callers = [int(line.split()[-2]) for line in told[1:3]]
    assert sum(callers) == 200
    assert min(callers) > 60
    assert told[3].startswith("basket: winner 2.0.0, +")
    assert told[-1].endswith("2.0.0 gets all requests")
    assert client.predict(NAME, PAYMENT).version == "2.0.0"


def test_a_push_as_a_canary_is_followed_to_its_end(server: Server, client: Prism, tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression

    for number, version in enumerate(("1.0.0", "1.1.0")):
        file = tmp_path / f"line{number}.joblib"
        joblib.dump(LogisticRegression(C=1 + number).fit([[0.0], [1.0]], [0, 1]), file)
        push = ("push", str(file), "--name", "line", "--strategy", "canary", "--percent", "30")
        pushed = prism(server, *push, "--expected-input", '{"input": [1.0]}', "--json")
        assert pushed.exit_code == 0, pushed.output
        assert client.models.get("line").version == "1.0.0", f"{version} does not take over at once"
    begun = json.loads(pushed.stdout)
    assert (begun["candidate"]["version"], begun["stable"]["version"]) == ("1.1.0", "1.0.0")
    assert client.canary("line").promote().split == {"1.0.0": 0.0, "1.1.0": 100.0}
    followed = prism(server, "canary", "status", "line", "--follow")
    assert followed.exit_code == 0
    assert "promoted: " in followed.stderr
    assert followed.stdout.startswith("line is promoted\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("canary", "start", NAME, "--candidate", "2.0.0", "--steps", "5,ten"), "is not a list of shares"),
        (("canary", "status", "--follow"), "needs the name"),
        (("push", __file__, "--percent", "5"), "are for --strategy canary"),
        (("push", __file__, "--strategy", "canary", "--no-run"), "does not start it"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], told: str) -> None:
    refused = CliRunner().invoke(app, arguments, env={"PRISM_URL": "http://127.0.0.1:1"})
    assert refused.exit_code == 1
    assert told in refused.stderr
