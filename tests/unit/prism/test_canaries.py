"""Canaries in the SDK and on a terminal, against a server that answers as written."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import typer

from prism import Prism, errors
from prism.canaries import Canary
from prism.cli.canary import show
from prism.cli.canary_view import describe
from prism.cli.output import Output
from prism.cli.session import Session
from prism.responses import record
from prism.rollouts import Rollout, canary_of

HOLDING: dict[str, Any] = {
    "id": "r1",
    "name": "fraud",
    "kind": "canary",
    "state": "holding",
    "reason": None,
    "stable": {"version": "1.0.0"},
    "candidate": {"version": "2.0.0"},
    "percentage": 5.0,
    "steps": [5.0, 25.0, 100.0],
    "bake_seconds": 30.0,
    "auto_rollback_threshold": 0.02,
    "missing": "too little evidence (37 of 149)",
    "evidence": {"answers": 37, "bad": 0, "slow": 1, "mirrored": 30},
    "bad_share_bound": 0.0778,
    "seconds": 41.0,
}
ROLLED_BACK = HOLDING | {
    "state": "rolled_back",
    "reason": "4 of 4 answers were 500\x1b[31m",
    "percentage": 0.0,
    "missing": None,
    "evidence": None,
    "bad_share_bound": None,
    "seconds": None,
}
EVENTS = [
    {"number": 1, "at": "2026-11-29T22:04:11Z", "what": "step", "text": "2.0.0 gets 5 % of the requests"},
    {"number": 2, "at": "2026-11-29T22:05:02Z", "what": "rolled_back", "text": "4 of 4 answers were 500"},
]


class Server:
    """Answers one state after another, and with each the events until then. requests: what was asked of it."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else {}
        self.requests.append((request.method, request.url.raw_path.decode(), body))
        if request.url.path.endswith("/events"):
            after = int(request.url.params["after"])
            known = EVENTS if self.states[0] is ROLLED_BACK else EVENTS[:1]
            return httpx2.Response(200, json={"events": known[after:]})
        if request.url.path == "/deployments":
            return httpx2.Response(200, json={"deployments": self.states})
        return httpx2.Response(200, json=self.states.pop(0) if len(self.states) > 1 else self.states[0])


def client(server: Server) -> Prism:
    return Prism("http://prism.test", backoff_seconds=0, transport=httpx2.MockTransport(server))


def rollout(document: dict[str, Any]) -> Rollout:
    return record(Rollout, document)


def test_what_is_not_given_is_left_to_the_server() -> None:
    server = Server(HOLDING)
    with client(server) as prism:
        prism.create_canary("fraud", "2.0.0")
        prism.create_canary("fraud", "2.0.0", 0, 0.0, steps=[5, 100], bake_seconds=0, rescue=False)
    least, most = (body for _, _, body in server.requests)
    assert least == {"name": "fraud", "candidate_version": "2.0.0"}
    given = {
        "initial_percentage": 0,
        "auto_rollback_threshold": 0.0,
        "steps": [5, 100],
        "bake_seconds": 0,
        "rescue": False,
    }
    assert most == least | given


def test_a_model_s_canary_is_the_one_that_is_not_over_otherwise_its_last_one() -> None:
    shadow = rollout(HOLDING | {"id": "s", "kind": "shadow"})
    over, before = (rollout(ROLLED_BACK | {"id": id}) for id in ("new", "old"))
    active = rollout(HOLDING)
    assert canary_of("fraud", [shadow, over, active]) is active
    assert canary_of("fraud", [shadow, over, before]) is over
    with pytest.raises(errors.NotFoundError, match="prism canary start fraud"):
        canary_of("fraud", [shadow])


def test_an_id_that_would_be_another_path_is_refused_or_quoted() -> None:
    server = Server(HOLDING)
    with client(server) as prism:
        with pytest.raises(errors.InvalidRequest):
            Canary(prism, rollout(HOLDING | {"id": ".."})).refresh()
        Canary(prism, rollout(HOLDING | {"id": "a/../b"})).promote()
    assert [path for _, path, _ in server.requests] == ["/deployments/canary/a%2F..%2Fb/promote"]


def test_a_canary_is_shown_with_its_evidence_against_the_limit() -> None:
    assert describe(rollout(HOLDING)).splitlines() == [
        "fraud is holding",
        f"1.0.0 {'█' * 38}{'░' * 2} 95 %",
        f"2.0.0 {'█' * 2}{'░' * 38} 5 %",
        "Evidence  37 answers (30 to copies), 0 bad, 1 slow",
        "Limit     2 % bad; shown so far: below 7.78 %",
        "Step      [5], 25, 100 %, for 41 s of at least 30 s",
        "Missing   too little evidence (37 of 149)",
    ]


def test_what_is_over_has_its_reason_alone_and_controls_no_terminal() -> None:
    told = describe(rollout(ROLLED_BACK)).splitlines()
    assert told[0] == "fraud is rolled back"
    assert told[3:] == ["Why       4 of 4 answers were 500�[31m"]


def test_a_share_that_is_too_small_for_the_bar_is_seen_all_the_same() -> None:
    assert f"2.0.0 █{'░' * 39} 0.1 %" in describe(rollout(HOLDING | {"percentage": 0.1}))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_followed_tells_each_event_once_and_fails_with_the_canary(
    is_terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(HOLDING, HOLDING, ROLLED_BACK)
    here = Session(Output(), None, None)
    here.output.is_terminal = is_terminal
    with client(server) as prism, pytest.raises(typer.Exit) as left:
        show(here, Canary(prism, rollout(HOLDING)), follow=True)
    assert left.value.exit_code == 1
    told = capsys.readouterr()
    assert told.err.count("22:04:11 step: 2.0.0 gets 5 % of the requests\n") == 1
    assert told.err.count("22:05:02 rolled back: 4 of 4 answers were 500\n") == 1
    assert told.out.startswith("fraud is rolled back\n")
