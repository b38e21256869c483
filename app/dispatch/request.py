"""One request on its way to a model, and what comes back of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from app.access.rate_limit import Allowance
from app.errors import PrismError
from model_container.contract import frames

if TYPE_CHECKING:
    from app.dispatch.batch import Lane


class Reply(Struct, frozen=True, gc=False):
    """One answer as the runtime wrote it, and what it took.

    names: what stands in front of the body's own members, b"" if nothing does. timing: Server-Timing's value.
    """

    status: int
    form: int
    names: bytes
    body: bytes
    timing: str


class Waiting:
    """One request on its way. Exactly one of `answered` and `failed` is called, unless it is `settled` before.

    lane, allowance: set once it is admitted. settled: True as soon as nobody waits for it any more.
    """

    __slots__ = ("allowance", "arrived", "body", "deadline", "lane", "options", "settled")

    dialect = frames.DIALECT_JSON
    allowance: Allowance | None
    lane: Lane

    def __init__(self, body: bytes, options: int = 0) -> None:
        self.body = body
        self.options = options
        self.settled = False
        self.arrived = 0.0
        self.deadline = 0.0

    def answered(self, reply: Reply) -> None:
        raise NotImplementedError

    def failed(self, error: PrismError) -> None:
        raise NotImplementedError

    def fail(self, error: PrismError) -> None:
        """End it with an error, unless it has ended."""
        if not self.settled:
            self.settled = True
            self.lane.tally.count([error.status])
            self.failed(error)
