"""One job at a time for each model, and who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from app.lifecycle.jobs import Jobs

pytestmark = pytest.mark.anyio


async def forever() -> None:
    await asyncio.Event().wait()


async def test_waiters_of_a_cancelled_job_continue() -> None:
    jobs = Jobs()
    jobs.begin("m", forever(), "a job")
    waiter = asyncio.create_task(jobs.settled("m"))
    await asyncio.sleep(0)
    await jobs.end("m")
    await waiter
    assert not jobs.busy("m")


async def test_a_waiter_that_is_cancelled_leaves_the_job_alone() -> None:
    jobs = Jobs()
    jobs.begin("m", forever(), "a job")
    waiter = asyncio.create_task(jobs.settled("m"))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    assert jobs.busy("m")
    await jobs.end_all()


async def test_a_waiter_that_is_cancelled_along_with_the_job_ends() -> None:
    jobs = Jobs()
    jobs.begin("m", forever(), "a job")
    waiter = asyncio.create_task(jobs.settled("m"))
    await asyncio.sleep(0)
    job = next(task for task in asyncio.all_tasks() if task.get_name() == "a job")
    job.cancel()  # both in one turn of the loop, as at its end
    waiter.cancel()
    await asyncio.wait([job, waiter])
    assert waiter.cancelled()


async def test_a_queued_job_starts_after_the_current_one_and_both_are_cancelled_together() -> None:
    jobs, released, began = Jobs(), asyncio.Event(), asyncio.Event()

    async def first() -> None:
        await released.wait()

    async def second() -> None:
        began.set()

    jobs.begin("m", first(), "the first")
    jobs.begin("m", jobs.behind("m", second)(), "the second")
    await asyncio.sleep(0)
    assert not began.is_set()
    released.set()
    await jobs.settled("m")
    assert began.is_set()
