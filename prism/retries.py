"""When a failed call is worth another try, and after how long; decided without a clock or a connection."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from prism.errors import APIError, ConnectionFailed, PrismError, RequestTimedOut
from prism.requests import Call

PASSING = frozenset((408, 502, 503))
"""Of the server's and of proxies before it: what time may cure."""


@dataclass(frozen=True)
class Retries:
    """first_delay_seconds doubles with each try, less up to a quarter at random so that callers spread out.

    A server that asks for more than longest_delay_seconds is not waited for: the caller gets the error at once.
    """

    count: int = 2
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 30

    def delay_seconds(self, call: Call[Any], failure: PrismError, attempt: int) -> float | None:
        """Seconds to wait before sending `call` again after its failure number `attempt` (from 0); None to give up."""
        if attempt >= self.count or not worth_repeating(call, failure):
            return None
        asked = failure.retry_after_seconds if isinstance(failure, APIError) else None
        if asked is not None:
            return asked if asked <= self.longest_delay_seconds else None
        delay = min(self.first_delay_seconds * float(2**attempt), self.longest_delay_seconds)
        return delay * random.uniform(0.75, 1)


def worth_repeating(call: Call[Any], failure: PrismError) -> bool:
    """A call that must not run twice is repeated only when the server surely did not take it.

    409 is not repeated: here it says that the model's state forbids the action, which time does not cure. Nor is what
    the request itself may have done, and would do again: 500, a model that failed or was ended by it, and 504, a model
    that did not come to an end.
    """
    if isinstance(failure, RequestTimedOut):
        return not failure.sent
    if isinstance(failure, ConnectionFailed):
        return call.repeatable or not failure.sent
    if isinstance(failure, APIError):
        return failure.status == 429 or (call.repeatable and failure.status in PASSING)
    return False
