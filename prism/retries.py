"""Decision whether to retry a failed call, and after how long; made without a clock or a connection."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from prism.errors import APIError, ConnectionFailed, PrismError, RequestTimedOut
from prism.requests import Call

PASSING = frozenset((408, 502, 503))
"""Temporary errors, of the server or of proxies before it."""


@dataclass(frozen=True)
class Retries:
    """Retry policy. The delay doubles with each try, minus up to a quarter at random so that callers spread out.

    If a server asks for a longer wait than longest_delay_seconds, the caller gets the error at once.
    """

    count: int = 2
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 30

    def delay_seconds(self, call: Call[Any], failure: PrismError, attempt: int) -> float | None:
        """Return the seconds to wait before sending `call` again after failure number `attempt` (from 0); None to give
        up.
        """
        if attempt >= self.count or not worth_repeating(call, failure):
            return None
        asked = failure.retry_after_seconds if isinstance(failure, APIError) else None
        if asked is not None:
            return asked if asked <= self.longest_delay_seconds else None
        delay = min(self.first_delay_seconds * float(2**attempt), self.longest_delay_seconds)
        return delay * random.uniform(0.75, 1)


def worth_repeating(call: Call[Any], failure: PrismError) -> bool:
    """Return whether to send the call again. One that must not run twice is repeated only if the server did not take
    it.

    409 is not repeated: the model's state forbids the action, and waiting does not change that. 500 and 504 are not
    repeated because the request itself may have caused them and would again: a model that failed or that the request
    ended, and a model that did not finish.
    """
    if isinstance(failure, RequestTimedOut):
        return not failure.sent
    if isinstance(failure, ConnectionFailed):
        return call.repeatable or not failure.sent
    if isinstance(failure, APIError):
        return failure.status == 429 or (call.repeatable and failure.status in PASSING)
    return False
