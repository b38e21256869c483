"""What happens to a rollout, as server-sent events.

(a word)   a state that it came to, or `step` or `passed`; its id is the event's number, from which a disconnected client
           goes on (Last-Event-ID, or ?after=); the data is the event
progress   every second while it is active: the rollout as it is now
problem    the events cannot be read; the text says why
end        nothing more comes; the text is the rollout's state, or `closing` when the server ends
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.sse import format_sse_event
from msgspec import to_builtins

from app.api.log_events import CLOSING, OPENING
from app.core.rollout.records import Rollout
from app.errors import PrismError
from app.lifecycle.rollouts.canaries import Canaries

PROGRESS_SECONDS = 1.0

Document = Callable[[Rollout], dict[str, Any]]


async def rollout_events(
    canaries: Canaries,
    rollout_id: str,
    after: int,
    closing: asyncio.Event,
    document: Document,
    progress_seconds: float = PROGRESS_SECONDS,
) -> AsyncIterator[bytes]:
    """Yield what happened to a rollout after an event's number, and then what happens, until it is over."""
    yield OPENING
    try:
        while True:
            rollout = await canaries.get(rollout_id)  # first: an event that ends it is then among those that follow
            for event in await canaries.events(rollout_id, after):
                after = event.number
                yield format_sse_event(event=event.what, data_str=json.dumps(to_builtins(event)), id=str(after))
            if not rollout.is_active and after >= rollout.generation:
                yield format_sse_event(event="end", data_str=rollout.state)
                return
            yield format_sse_event(event="progress", data_str=json.dumps(document(rollout)))
            if await _is_set(closing, progress_seconds):
                yield format_sse_event(event="end", data_str=CLOSING)
                return
    except PrismError as error:
        yield format_sse_event(event="problem", data_str=str(error))


async def _is_set(closing: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until the server ends; return whether it does."""
    try:
        await asyncio.wait_for(closing.wait(), seconds)
    except TimeoutError:
        return False
    return True
