"""A gateway's lifecycle with canaries, on a virtual clock, whose evidence the test says."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.core.model import TrafficChoice
from app.core.rollout.policy import canary_policy
from app.core.rollout.records import Evidence, Incident, Rollout, RolloutState
from app.core.route import Route
from app.dispatch.request import Call
from app.lifecycle.rollouts.canaries import Canaries
from app.lifecycle.rollouts.checks import CanaryRequest
from tests.fakes import eventually
from tests.unit.lifecycle.house_lab import House
from tests.unit.lifecycle.rollouts.memory_store import MemoryStore

STABLE, CANDIDATE, THIRD = "a" * 12, "b" * 12, "c" * 12


class Lab:
    """A stable version that serves, a candidate beside it, and the controller.

    now: its clock, in seconds. at_first: the split of the name when a restarted gateway takes its first request.
    """

    def __init__(self, home: House, store: MemoryStore) -> None:
        self.home, self.store = home, store
        self.now = 100.0
        self.counted: dict[str, Evidence] = {}
        self.at_first: Route | None = None
        self.open()

    def open(self) -> None:
        self.canaries = Canaries(
            self.store, self.home.deployments, lambda name: self.counted.get(name, Evidence()), lambda: self.now
        )

    async def version(self, model_id: str, traffic: TrafficChoice = TrafficChoice.ALL) -> None:
        model = await self.home.add(model_id)
        await self.home.deployments.start(model, traffic=traffic)
        await self.home.deployments.settled(model_id)

    async def begin(self, candidate: str = CANDIDATE, steps: list[float] | None = None, **policy: Any) -> Rollout:
        chosen = canary_policy(25, 0.02, 30, steps, **policy)
        return await self.canaries.begin(CanaryRequest("iris", candidate, chosen))

    def count(self, answers: int, bad: int = 0) -> None:
        """Say what dispatch has counted since the rollout began."""
        incidents = tuple(Incident(f"q{number}", "status 500") for number in range(1, bad + 1))
        self.counted["iris"] = Evidence(answers=answers, bad=bad, incidents=incidents)

    async def judge(self, rollout_id: str, state: RolloutState) -> Rollout:
        """Judge once, and wait until the rollout is in this state."""
        self.canaries.judge()
        return await self.reached(rollout_id, state)

    async def reached(self, rollout_id: str, state: RolloutState) -> Rollout:
        canaries = self.canaries
        found = await canaries.get(rollout_id)
        if found.state is not state:
            await eventually(lambda: canaries.state_of(rollout_id) in (state, None))
            found = await canaries.get(rollout_id)
        assert found.state is state
        return found

    async def in_step(self, rollout_id: str, step: int) -> None:
        """Wait until a canary is in this step: its traffic follows, and the time of the step counts."""
        canary = self.canaries._active[rollout_id]
        await eventually(lambda: canary.rollout.step == step and not canary.changing.locked())

    async def answering(self, count: int = 40) -> Counter[str]:
        answers = [await self.home.dispatcher.predict(Call("iris", b"1", "here")) for _ in range(count)]
        assert {answer.status for answer in answers} == {200}
        return Counter(answer.headers["x-model-id"] for answer in answers)

    async def events(self, rollout_id: str) -> list[str]:
        return [event.what for event in await self.store.events(rollout_id)]


@asynccontextmanager
async def lab(folder: Path, *, beside: bool = True, **settings: Any) -> AsyncIterator[Lab]:
    """beside: whether the candidate serves already, without requests."""
    home = House(folder, **settings)
    made = Lab(home, MemoryStore())
    try:
        await made.version(STABLE)
        if beside:
            await made.version(CANDIDATE, TrafficChoice.NONE)
        yield made
    finally:
        await made.canaries.end()
        await home.monitor.end()
        await home.deployments.shut_down(keep_models=False)
        await home.dispatcher.close()
