"""Requests that end or hang their replica: tried again alone at most, told the cause, and nobody else pays for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from app.access.rate_limit import RateLimiter
from app.core.model import Deployment, Replica
from app.core.route_table import Loss, Outlook, RouteTable, route_table
from app.dispatch import replica
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Prediction
from app.dispatch.suspects import LOSSES_MAX
from app.errors import ModelCrashed, PrismError, ReplicaTimeout
from model_container.contract.frames import Answer, Request
from tests.fakes import FakeReplica, Handler, echo, eventually
from tests.unit.dispatch.batch_lab import FLOW, call, live

POISON = 666
OUT_OF_MEMORY = "out of memory: it used 2050 MiB, its limit is 2048 MiB"
KILLED = "killed by signal 9"
TOGETHER = structs.replace(FLOW, window_seconds=60.0)
"""Settings with which requests that arrive while a replica is busy share a batch."""


class Fragile:
    """Replicas that end at one request, `POISON`, once it is `fatal`; and what each was asked, batch by batch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[list[list[int]]] = []
        self.fakes: list[FakeReplica] = []
        self.deaths = 0
        self.fatal = asyncio.Event()
        self.fatal.set()

    async def start(self) -> FakeReplica:
        asked: list[list[int]] = []
        self.asked.append(asked)

        async def handler(requests: list[Request]) -> list[Answer]:
            asked.append([json.loads(one.body) for one in requests])
            if POISON in asked[-1]:
                await self.fatal.wait()
                self.deaths += 1
                await fake.die()
            return await echo(requests)

        fake = FakeReplica(self._folder / f"{len(self.fakes)}.sock", handler)
        self.fakes.append(fake)
        await fake.start()
        return fake


def serving(*fakes: FakeReplica) -> Deployment:
    return structs.replace(live(fakes[0]), replicas=tuple(one.replica for one in fakes))


class Keeper:
    """Publishes a table without each replica that is lost, which says why it was. coming: whether others follow."""

    def __init__(self, deployment: Deployment, flow: QueueSettings, reason: str) -> None:
        self.suspects: list[str] = []
        self.coming = False
        self.replicas = deployment.replicas
        self.dispatcher = Dispatcher(RateLimiter(0, 60), flow, self._suspect)
        self._deployment = deployment
        self._reason = reason
        self._losses: tuple[Loss, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    def table(self) -> RouteTable:
        outlooks = {self._deployment.model_id: Outlook(self.coming, self._losses)}
        return route_table([structs.replace(self._deployment, replicas=self.replicas)], outlooks)

    async def publish(self, *fakes: FakeReplica, coming: bool = False) -> None:
        """Publish a route table that adds these replicas."""
        self.replicas, self.coming = (*self.replicas, *(one.replica for one in fakes)), coming
        await self.dispatcher.publish(self.table())

    def _suspect(self, replica: Replica, reason: str) -> bool:
        self.suspects.append(reason)
        if self._reason:
            self.replicas = tuple(one for one in self.replicas if one != replica)
            self._losses = (*self._losses, Loss(replica.id, self._reason, self._reason != KILLED))
            self._tasks.add(asyncio.create_task(self.dispatcher.publish(self.table())))
        return bool(self._reason)


@asynccontextmanager
async def kept(*fakes: FakeReplica, reason: str = "", flow: QueueSettings = FLOW) -> AsyncIterator[Keeper]:
    """reason: what ends replicas; without one, nobody looks after them."""
    keeper = Keeper(serving(*fakes), flow, reason)
    await keeper.publish()
    try:
        yield keeper
    finally:
        await keeper.dispatcher.close()


@asynccontextmanager
async def fragile(folder: Path, number: int) -> AsyncIterator[Fragile]:
    async with AsyncExitStack() as stack:
        here = Fragile(folder)
        for _ in range(number):
            await here.start()
        yield here
        for fake in here.fakes:
            stack.push_async_callback(fake.die)


async def outcome(dispatcher: Dispatcher, body: int) -> Prediction | PrismError:
    try:
        return await dispatcher.predict(call(body))
    except PrismError as error:
        return error


def asking(dispatcher: Dispatcher, *bodies: int) -> dict[int, asyncio.Task[Prediction | PrismError]]:
    return {body: asyncio.create_task(outcome(dispatcher, body)) for body in bodies}


async def test_a_request_that_ended_its_replica_alone_gets_the_cause_and_is_not_retried(tmp_path: Path) -> None:
    async with fragile(tmp_path, 2) as here, kept(*here.fakes, reason=OUT_OF_MEMORY) as keeper:
        told = await outcome(keeper.dispatcher, POISON)
        assert isinstance(told, ModelCrashed)
        assert (told.status, told.headers) == (500, {})
        assert "worked on this request alone: out of memory: it used 2050 MiB" in told.detail
        assert "Try again" not in str(told)
        assert here.deaths == 1
        assert isinstance(await outcome(keeper.dispatcher, 1), Prediction)


async def test_requests_lost_together_are_retried_alone_until_the_cause_is_found(tmp_path: Path) -> None:
    async with fragile(tmp_path, 3) as here:
        async with kept(*here.fakes, flow=TOGETHER, reason=OUT_OF_MEMORY) as keeper:
            asked = asking(keeper.dispatcher, 1, 2, POISON, 3, 4)
            outcomes = {body: await task for body, task in asked.items()}
    assert isinstance(outcomes.pop(POISON), ModelCrashed)
    assert all(isinstance(one, Prediction) for one in outcomes.values())
    assert here.deaths == 2, "once with others, once alone"
    batches = [batch for asked_of_one in here.asked for batch in asked_of_one]
    assert [batch for batch in batches if POISON in batch] == [[1, 2, POISON, 3, 4], [POISON]]
    assert [1] in batches
    assert [2] in batches


async def test_requests_are_retried_if_the_replica_was_killed_from_outside(tmp_path: Path) -> None:
    """The request is retried more often than coincidence explains, on replicas that serve no other request meanwhile."""
    async with fragile(tmp_path, 5) as here, kept(*here.fakes, reason=KILLED) as keeper:
        assert isinstance(await outcome(keeper.dispatcher, POISON), ModelCrashed)
        assert here.deaths == LOSSES_MAX
        assert isinstance(await outcome(keeper.dispatcher, 1), Prediction)


async def test_requests_that_the_replica_had_not_started_are_not_suspects(tmp_path: Path) -> None:
    narrow = structs.replace(FLOW, max_batch_size=2)
    async with fragile(tmp_path, 3) as here:
        async with kept(here.fakes[0], flow=narrow, reason=OUT_OF_MEMORY) as keeper:
            here.fatal.clear()
            asked = asking(keeper.dispatcher, POISON, 1, 2, 3)  # two batches of two, one behind the other
            await eventually(lambda: bool(here.asked[0]) and keeper.dispatcher.lanes[0].queued == 0)
            await keeper.publish(*here.fakes[1:])
            here.fatal.set()
            outcomes = {body: await task for body, task in asked.items()}
    assert isinstance(outcomes.pop(POISON), ModelCrashed)
    assert all(isinstance(one, Prediction) for one in outcomes.values())
    batches = [batch for asked_of_one in here.asked for batch in asked_of_one]
    assert [2, 3] in batches


async def test_a_suspect_waits_for_a_second_replica_before_it_puts_the_last_one_at_risk(tmp_path: Path) -> None:
    async with fragile(tmp_path, 2) as here:
        async with kept(*here.fakes, flow=TOGETHER, reason=OUT_OF_MEMORY) as keeper:
            keeper.coming = True
            asked = asking(keeper.dispatcher, POISON, 1)
            await eventually(lambda: here.deaths == 1)
            for body in range(10, 30):
                assert isinstance(await outcome(keeper.dispatcher, body), Prediction)
            assert not asked[POISON].done()
            assert here.deaths == 1, "the only one that is left serves the others"
            await keeper.publish(await here.start())
            assert isinstance(await asked[POISON], ModelCrashed)
            assert isinstance(await asked[1], Prediction)
            assert isinstance(await outcome(keeper.dispatcher, 2), Prediction)
    assert here.deaths == 2


async def test_a_suspect_has_its_replica_to_itself_under_load(tmp_path: Path) -> None:
    """Others that come meanwhile go to the other replica, so that they are not lost with it."""
    async with fragile(tmp_path, 3) as here:
        async with kept(*here.fakes, flow=TOGETHER, reason=OUT_OF_MEMORY) as keeper:
            asked = asking(keeper.dispatcher, 1, POISON, *range(10, 20))
            good = [await outcome(keeper.dispatcher, body) for body in range(100, 200)]
            outcomes = {body: await task for body, task in asked.items()}
    assert all(isinstance(one, Prediction) for one in good)
    assert isinstance(outcomes.pop(POISON), ModelCrashed)
    assert all(isinstance(one, Prediction) for one in outcomes.values())
    fatal = [batch for asked_of_one in here.asked for batch in asked_of_one if POISON in batch]
    assert [len(batch) > 1 for batch in fatal] == [True, False], "first in company, then alone"
    (alone,) = [asked_of_one for asked_of_one in here.asked if [POISON] in asked_of_one]
    assert alone[-1] == [POISON], "nothing was sent behind it"


async def test_suspects_are_retried_on_another_replica_if_theirs_is_removed(tmp_path: Path) -> None:
    """Scaling down without time to drain closes the connection, which says nothing about the next suspect."""
    release, kill = asyncio.Event(), asyncio.Event()

    async def slow(requests: list[Request]) -> list[Answer]:
        await release.wait()
        return await echo(requests)

    async def killed(requests: list[Request]) -> list[Answer]:
        await kill.wait()
        await fakes[2].die()
        return await echo(requests)

    fakes = [FakeReplica(tmp_path / f"{index}.sock", handler) for index, handler in enumerate((slow, slow, killed))]
    for fake in fakes:
        await fake.start()
    async with kept(*fakes, flow=TOGETHER, reason=KILLED) as keeper:
        dispatcher = keeper.dispatcher
        (lane,) = dispatcher.lanes
        asked = []
        for bodies, fake in (([101], fakes[0]), ([102], fakes[1]), ([1, 2, 3], fakes[2])):
            asked += asking(dispatcher, *bodies).values()
            await eventually(lambda fake=fake, bodies=bodies: fake.batches == [len(bodies)])
        kill.set()
        await eventually(lambda: any(line.is_withheld for line in lane.replicas))
        (leaving,) = [line.replica for line in lane.replicas if line.is_withheld]
        keeper.replicas = tuple(one for one in keeper.replicas if one != leaving)
        await dispatcher.publish(keeper.table())
        await dispatcher.drained(leaving, 0)
        release.set()
        outcomes = [await task for task in asked]
    for fake in fakes:
        await fake.die()
    assert [type(one) for one in outcomes] == [Prediction] * 5


class Endless:
    """Does not come to an end with `POISON`, and says so when it is asked how long it has been at it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.fakes = [FakeReplica(folder / f"{index}.sock", self._handler(index)) for index in range(number)]
        self.asked: list[list[list[int]]] = [[] for _ in range(number)]
        self.release = asyncio.Event()

    def _handler(self, index: int) -> Handler:
        async def handler(requests: list[Request]) -> list[Answer]:
            bodies = [json.loads(one.body) for one in requests]
            self.asked[index].append(bodies)
            if POISON in bodies:
                self.fakes[index].busy_ms = 60_000
                await self.release.wait()
            return await echo(requests)

        return handler


@asynccontextmanager
async def endless(folder: Path, number: int) -> AsyncIterator[Endless]:
    here = Endless(folder, number)
    for fake in here.fakes:
        await fake.start()
    yield here
    here.release.set()
    for fake in here.fakes:
        await fake.die()


HASTY = structs.replace(TOGETHER, timeout_seconds=4.0, max_batch_size=4)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "SILENCE_BEFORE_PING_SECONDS", 0.1)


async def test_requests_behind_an_endless_one_are_answered_by_the_other_replica(tmp_path: Path) -> None:
    async with endless(tmp_path, 2) as here, kept(here.fakes[0], flow=HASTY) as keeper:
        assert isinstance(await outcome(keeper.dispatcher, 1), Prediction)
        stuck = asking(keeper.dispatcher, POISON)
        await eventually(lambda: [POISON] in here.asked[0])
        behind = asking(keeper.dispatcher, 10, 11, 12, 13)  # a full batch, sent after it
        await eventually(lambda: keeper.dispatcher.lanes[0].queued == 0)
        await keeper.publish(here.fakes[1])
        for task in behind.values():
            assert isinstance(await task, Prediction)
        assert [10, 11, 12, 13] in here.asked[1]
        assert not stuck[POISON].done()
        told = await stuck[POISON]
        assert isinstance(told, ReplicaTimeout)
        assert "did not finish this request within 4 s" in told.detail
        assert "Retry-After" not in told.headers
        assert all([POISON] not in of_one for of_one in here.asked[1:])


async def test_a_replica_with_an_endless_batch_is_not_used_until_it_finishes(tmp_path: Path) -> None:
    async with endless(tmp_path, 2) as here, kept(*here.fakes, flow=HASTY) as keeper:
        assert isinstance(await outcome(keeper.dispatcher, 1), Prediction)
        assert isinstance(await outcome(keeper.dispatcher, POISON), ReplicaTimeout)
        await eventually(lambda: any("at work on the same 1 request" in one for one in keeper.suspects))
        (stuck,) = [index for index, asked in enumerate(here.asked) if [POISON] in asked]
        before = len(here.asked[stuck])
        for body in range(10, 30):
            assert isinstance(await outcome(keeper.dispatcher, body), Prediction)
        assert len(here.asked[stuck]) == before
        here.fakes[stuck].busy_ms = 0
        here.release.set()
        lane = keeper.dispatcher.lanes[0]
        await eventually(lambda: all(line.connected for line in lane.replicas))


async def test_requests_batched_with_an_endless_one_are_answered_in_time(tmp_path: Path) -> None:
    async with endless(tmp_path, 3) as here, kept(*here.fakes, flow=HASTY) as keeper:
        assert isinstance(await outcome(keeper.dispatcher, 1), Prediction)
        asked = asking(keeper.dispatcher, 2, POISON, 3)
        outcomes = {body: await task for body, task in asked.items()}
    assert isinstance(outcomes.pop(POISON), ReplicaTimeout)
    assert all(isinstance(one, Prediction) for one in outcomes.values()), outcomes
