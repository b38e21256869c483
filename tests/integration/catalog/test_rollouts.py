"""Rollouts are kept whole: one active for each model, each change on top of the one before, and what happened."""

from __future__ import annotations

import asyncio

import pytest

from app.core.rollout.records import RolloutKind, RolloutState
from app.errors import Conflict
from app.lifecycle.rollouts.store import RolloutStore
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.rollouts import SqlRolloutStore
from tests.integration.catalog.records_lab import at, canary, event, following


@pytest.fixture
def store(database: CatalogDatabase) -> RolloutStore:
    return SqlRolloutStore(database)


async def test_a_rollout_is_read_as_it_was_recorded(store: RolloutStore) -> None:
    rollout = canary()
    first = event(rollout, answers=3, bad=[{"request_id": "q1", "share": 0.25}])

    await store.begin(rollout, first)

    assert await store.get("r1") == rollout
    assert await store.active() == (rollout,)
    assert await store.events("r1") == (first,)
    assert await store.get("r2") is None


async def test_a_second_active_rollout_of_a_model_is_refused_and_the_first_is_named(store: RolloutStore) -> None:
    running = following(canary(), RolloutState.RUNNING)
    await store.begin(canary(), event(canary()))
    await store.change(running, event(running))

    second = canary("r2", kind=RolloutKind.SHADOW)
    with pytest.raises(Conflict, match="`fraud` has a canary that is running: r1") as refused:
        await store.begin(second, event(second))

    assert refused.value.values == {"rollout_id": "r1"}
    assert await store.get("r2") is None
    assert await store.events("r2") == ()
    other = canary("r3", name="churn", second=1)
    await store.begin(other, event(other))
    assert [rollout.id for rollout in await store.active()] == ["r1", "r3"]


@pytest.mark.parametrize("end", [RolloutState.DONE, RolloutState.ROLLED_BACK, RolloutState.FAILED])
async def test_after_a_rollout_is_over_the_model_can_have_another(store: RolloutStore, end: RolloutState) -> None:
    over = following(canary(), end, reason="It is over.")
    await store.begin(canary(), event(canary()))
    await store.change(over, event(over))
    assert await store.active() == ()

    second = canary("r2", second=1)
    await store.begin(second, event(second))

    assert await store.active() == (second,)
    assert await store.list() == (second, over)
    assert await store.list("fraud", limit=1) == (second,)
    assert await store.list("churn") == ()


async def test_of_two_changes_of_one_generation_one_is_recorded(store: RolloutStore) -> None:
    await store.begin(canary(), event(canary()))
    promoted = following(canary(), RolloutState.PROMOTED)
    rolled_back = following(canary(), RolloutState.ROLLED_BACK)

    results = await asyncio.gather(
        store.change(promoted, event(promoted)), store.change(rolled_back, event(rolled_back)), return_exceptions=True
    )

    errors = [result for result in results if result is not None]
    assert [type(error) for error in errors] == [Conflict]
    recorded = await store.get("r1")
    assert recorded in (promoted, rolled_back)
    assert [one.what for one in await store.events("r1")] == ["pending", recorded.state]


async def test_one_of_many_that_begin_at_once_is_recorded(store: RolloutStore) -> None:
    rollouts = [canary(f"r{number}") for number in range(6)]

    results = await asyncio.gather(*(store.begin(one, event(one)) for one in rollouts), return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 5 + ["NoneType"]
    assert len(await store.list()) == 1


async def test_a_call_that_is_repeated_after_its_answer_was_lost_succeeds(store: RolloutStore) -> None:
    running = following(canary(), RolloutState.RUNNING)

    for _ in range(2):
        await store.begin(canary(), event(canary()))
    for _ in range(2):
        await store.change(running, event(running))

    assert await store.get("r1") == running
    assert [one.number for one in await store.events("r1")] == [1, 2]


async def test_a_change_of_a_generation_that_is_gone_is_refused_and_leaves_no_event(store: RolloutStore) -> None:
    await store.begin(canary(), event(canary()))
    running = following(canary(), RolloutState.RUNNING)
    await store.change(running, event(running))

    late = following(canary(), RolloutState.ROLLED_BACK)
    with pytest.raises(Conflict) as refused:
        await store.change(late, event(late))

    assert refused.value.values == {"rollout_id": "r1", "generation": 2}
    assert len(await store.events("r1")) == 2


async def test_a_change_and_its_event_are_recorded_together_or_not_at_all(store: RolloutStore) -> None:
    await store.begin(canary(), event(canary()))
    running = following(canary(), RolloutState.RUNNING)

    with pytest.raises(Conflict):
        await store.change(running, event(canary()))  # number 1 exists

    assert await store.get("r1") == canary()


async def test_events_are_read_from_where_a_reader_stopped(store: RolloutStore) -> None:
    rollout = canary()
    await store.begin(rollout, event(rollout))
    for state in (RolloutState.RUNNING, RolloutState.HOLDING, RolloutState.RUNNING):
        rollout = following(rollout, state)
        await store.change(rollout, event(rollout))

    assert [one.number for one in await store.events("r1", after=2)] == [3, 4]
    assert await store.events("r1", after=4) == ()
    assert rollout.updated_at == at(4)


async def test_text_that_no_database_holds_is_recorded_with_a_mark_in_its_place(store: RolloutStore) -> None:
    rollout = canary(reason="the model said \0 and \ud800")
    told = event(rollout, "null: \0", said=["\0", {"\ud800": float("nan")}])

    await store.begin(rollout, told)

    recorded, (noted,) = await store.get("r1"), await store.events("r1")
    assert recorded is not None
    assert recorded.reason == "the model said \ufffd and \ufffd"
    assert (noted.text, noted.facts) == ("null: \ufffd", {"said": ["\ufffd", {"\ufffd": None}]})
    assert await store.get("r\0") is None
