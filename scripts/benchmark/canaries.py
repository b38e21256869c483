"""Candidates that fail under load, the promotion and rollback of good ones, and gateways that are killed meanwhile.

Speaks only HTTP; `scripts/bench_canary.py` and an acceptance test use it. Times are those that the server recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx2

from prism.load.generator import load
from prism.load.result import Result

NAME = "fraud"
STABLE, GOOD = "1.0.0", "2.0.0"
RATE = 50.0
CONNECTIONS = 16
SETTLE_SECONDS = 60.0
BODIES = [json.dumps({"features": [{"amount": amount}]}).encode() for amount in range(1, 51)]

MODEL = """
import os
import time


class Fraud:
    def load(self, folder):
        pass

    def predict(self, rows):
        time.sleep(0.002)
        if any(row["amount"] for row in rows):
            {fault}
        return [2.5 * row["amount"] for row in rows]
"""
"""The sample has the amount 0, so each of them passes its probe."""

OWN_FAULTS = {
    STABLE: "pass",
    GOOD: "pass",
    "3.0.0": 'raise ValueError("no such amount")',
    "4.0.0": "os._exit(1)",
    "5.0.0": 'return [{"nan": float("nan")}["nan"] for row in rows]',
    "6.0.0": "return [-1.0 for row in rows]",
}


class Fault(NamedTuple):
    """version: the candidate. chaos: what it is given on purpose; {} for one that fails by itself."""

    version: str = GOOD
    chaos: Mapping[str, Any] = {}


FAULTS = {
    "500, all": Fault(chaos={"errors": 1.0}),
    "500, 50 %": Fault(chaos={"errors": 0.5}),
    "500, 20 %": Fault(chaos={"errors": 0.2}),
    "500, 10 %": Fault(chaos={"errors": 0.1}),
    "4xx for valid input": Fault("3.0.0"),
    "hangs": Fault(chaos={"hang": True}),
    "1 s late": Fault(chaos={"latency_ms": 1000.0}),
    "NaN": Fault("5.0.0"),
    "nonsense": Fault(chaos={"nonsense": True}),
    "dies": Fault("4.0.0"),
}


class Ended(NamedTuple):
    """How a canary ended. seconds: from when its candidate had both traffic and its fault to the rollback."""

    seconds: float
    reason: str


class Killable(Protocol):
    """A gateway that can be killed, and started again in the same home."""

    def kill(self) -> None: ...

    def start(self) -> object: ...


class Load(threading.Thread):
    """Requests at a constant rate until the block ends; `result` is then what came of them."""

    def __init__(self, url: str, rate: float = RATE) -> None:
        super().__init__(daemon=True)
        self._url, self._rate = url, rate
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._begun = threading.Event()
        self.result: Result | None = None

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        path = f"{self._url}/models/{NAME}/predict"
        self.result = await load(
            path, BODIES, connections=CONNECTIONS, seconds=3600, rate=self._rate, grace_seconds=60, stop=self._over
        )

    def __enter__(self) -> Load:
        self.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self.join()

    @property
    def failures(self) -> str:
        """What went wrong, for a person; "" if every request was answered well."""
        assert self.result is not None
        if not self.result.failed:
            return ""
        statuses = {status: answers.count for status, answers in self.result.answers.items()}
        return f"{self.result.failed} failed: {statuses}, {dict(self.result.failures)}, {self.result.unanswered} unanswered"


def archive(folder: Path, version: str) -> Path:
    """Write a version of the model as a ZIP file."""
    path = folder / f"{NAME}-{version}.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("model.py", MODEL.format(fault=OWN_FAULTS[version]))
        packed.writestr("sample_input.json", '{"features": [{"amount": 0}]}')
    return path


def wait_until(condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


class Canaries:
    """A server with versions of one model, as its admin drives it. http: a client with its base URL."""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http

    def deploy(self, folder: Path, version: str) -> None:
        """Deploy a version, live if it is the first, and stopped otherwise."""
        file = archive(folder, version)
        traffic = "all" if version == STABLE else "none"
        fields = {"model_name": NAME, "version": version, "traffic": traffic}
        answer = self.http.post("/models/upload-and-run", data=fields, files=[("file", (file.name, file.read_bytes()))])
        if answer.status_code != 201:
            raise RuntimeError(answer.text)
        if version != STABLE:
            self.http.post(f"/models/{NAME}@{version}/stop").raise_for_status()

    def get(self, rollout_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/deployments/{rollout_id}").raise_for_status().json())

    def begin(self, version: str, share: float = 5, **wanted: Any) -> str:
        """Begin a canary and return its id once its candidate gets its share, or is rolled back already."""
        body = {"name": NAME, "candidate_version": version, "initial_percentage": share, **wanted}
        answer = self.http.post("/deployments/canary", json=body)
        if answer.status_code != 201:
            raise RuntimeError(answer.text)
        rollout_id = str(answer.json()["id"])
        wait_until(lambda: self.get(rollout_id)["state"] != "pending", "a candidate that is ready")
        return rollout_id

    def command(self, rollout_id: str, command: str) -> dict[str, Any]:
        return dict(self.http.post(f"/deployments/canary/{rollout_id}/{command}").raise_for_status().json())

    def until_rolled_back(self, fault: Fault, **wanted: Any) -> Ended:
        """Begin a canary whose candidate fails, and wait for its rollback and the candidate's end."""
        rollout_id = self.begin(fault.version, **wanted)
        broken_at = 0.0
        if fault.chaos:
            body = {"seconds": 120.0, **fault.chaos}
            self.http.post(f"/models/{NAME}@{fault.version}/chaos", json=body).raise_for_status()
            broken_at = time.time()
        try:
            wait_until(lambda: bool(self.get(rollout_id)["state"] == "rolled_back"), "a rollback")
        except TimeoutError:
            self.command(rollout_id, "rollback")
            raise
        finally:
            if fault.chaos:
                self.http.delete(f"/models/{NAME}@{fault.version}/chaos").raise_for_status()
        ended = self.get(rollout_id)
        begun_at = max(broken_at, next(at for what, at in self.events(rollout_id) if what == "step"))
        self.wait_for_stop(fault.version)
        return Ended(seconds_of(ended["updated_at"]) - begun_at, str(ended["reason"]))

    def to_and_fro(self, version: str = GOOD) -> float:
        """Begin a canary, promote it and roll it back at once; return how many seconds the rollback's answer took.

        Raises RuntimeError if a version answers that should not.
        """
        rollout_id = self.begin(version, share=20)
        self.command(rollout_id, "promote")
        self._expect(version)
        began = time.monotonic()
        self.command(rollout_id, "rollback")
        seconds = time.monotonic() - began
        self._expect(STABLE)
        self.wait_for_stop(version)
        return seconds

    def whole_life(self, folder: Path) -> float:
        """Register a good version, promote it, roll it back and delete it; return how many seconds the rollback took."""
        file = archive(folder, GOOD)
        answer = self.http.post("/models", data={"model_name": NAME}, files=[("file", (file.name, file.read_bytes()))])
        if answer.status_code != 201:
            raise RuntimeError(answer.text)
        version = str(answer.json()["version"])
        seconds = self.to_and_fro(version)
        self.http.delete(f"/models/{NAME}@{version}").raise_for_status()
        return seconds

    def _expect(self, version: str) -> None:
        answering = {self.answering() for _ in range(10)}
        if answering != {version}:
            raise RuntimeError(f"{', '.join(answering)} answered, where {version} should have")

    def killed_in(self, command: str, gateway: Killable, after_seconds: float, version: str = GOOD) -> str:
        """Kill the gateway while it promotes a canary, or rolls a promoted one back; return the state it is in later.

        Raises RuntimeError if the record, the traffic and the versions that run do not say the same.
        """
        rollout_id = self.begin(version, share=20)
        if command == "rollback":
            self.command(rollout_id, "promote")
        path = f"/deployments/canary/{rollout_id}/{command}"
        sender = threading.Thread(target=self._send_and_forget, args=(path,))
        sender.start()
        time.sleep(after_seconds)
        gateway.kill()
        sender.join()
        gateway.start()
        wait_until(lambda: self._is_of_one_mind(rollout_id, version), f"one state after a kill in a {command}")
        state = str(self.get(rollout_id)["state"])
        if state in ("running", "holding", "promoted"):
            self.command(rollout_id, "rollback")
        self.wait_for_stop(version)
        self._expect(STABLE)
        return state

    def _send_and_forget(self, path: str) -> None:
        with contextlib.suppress(httpx2.TransportError):
            self.http.post(path)

    def _is_of_one_mind(self, rollout_id: str, version: str) -> bool:
        """Return whether those versions answer that should in the state that is recorded."""
        should = {"promoted": {version}, "rolled_back": {STABLE}}.get(self.get(rollout_id)["state"], {STABLE, version})
        return {self.answering() for _ in range(20)} == should

    def events(self, rollout_id: str) -> list[tuple[str, float]]:
        """Return what happened to a rollout, and when, in seconds since 1970."""
        answer = self.http.get(f"/deployments/{rollout_id}/events", params={"follow": "false"}).raise_for_status()
        return [(event["what"], seconds_of(event["at"])) for event in answer.json()["events"]]

    def wait_for_stop(self, version: str) -> None:
        wait_until(
            lambda: bool(self.http.get(f"/models/{NAME}@{version}").json()["status"] == "stopped"),
            f"the end of {version}",
        )

    def answering(self) -> str:
        """Return the version that answers a request."""
        answer = self.http.post(f"/models/{NAME}/predict", content=BODIES[0])
        answer.raise_for_status()
        return str(answer.headers["x-model-version"])


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
