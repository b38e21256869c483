"""Requests on their way to a model, and their answers."""

from __future__ import annotations

import asyncio
from typing import Protocol

from msgspec import Struct

from app.access.rate_limit import Allowance
from app.core.route_table import Endpoint
from app.errors import PrismError
from app.observe.tally import ModelCounters
from model_container.contract import frames


class Queue(Protocol):
    """The lane of a request, as the request sees it.

    version_headers: headers that name the version. version_header_lines: the same, each with its line end. tally:
    counts the outcomes of requests.
    """

    endpoint: Endpoint
    version_headers: dict[str, str]
    version_header_lines: str
    tally: ModelCounters


class Call(Struct, frozen=True):
    """One predict request of an admitted caller, as an ordinary route passes it on.

    caller: the name under which it is counted. dialect: of the body, one of frames.DIALECT_…. strict: refuse columns that
    the model does not have. as_csv: answer a CSV body by its rows with the results beside them. errors: with as_csv,
    have the column of errors even if no row has one.
    """

    ref: str
    body: bytes
    caller: str
    probabilities: bool = False
    request_id: str = ""
    dialect: int = frames.DIALECT_JSON
    strict: bool = False
    as_csv: bool = False
    errors: bool = False

    @property
    def options(self) -> int:
        chosen = (
            frames.OPTION_PROBABILITIES if self.probabilities else 0,
            frames.OPTION_STRICT if self.strict else 0,
            frames.OPTION_CSV if self.as_csv else 0,
            frames.OPTION_ERRORS if self.as_csv and self.errors else 0,
        )
        return sum(chosen)


class Reply(Struct, frozen=True, gc=False):
    """One answer as the runtime wrote it, and its timing.

    names: the JSON that precedes the body's own members, b"" for none. timing: the value of the Server-Timing header.
    ignored: the columns that the model does not have, as a list in JSON; "" if there were none. rescued: the version
    that could not answer, so that this answer is another one's; "" if this is the version that was asked first.
    """

    status: int
    form: int
    names: bytes
    body: bytes
    timing: str
    ignored: str = ""
    rescued: str = ""


class PendingRequest:
    """One request on its way. Exactly one of `answered` and `failed` is called, unless it is `settled` before.

    lane, allowance: set once the request is admitted. settled: True as soon as nobody waits for it any more.
    request_id: as its caller knows it; "" until somebody asks for it, see `identify`.
    """

    __slots__ = ("allowance", "arrived", "body", "deadline", "lane", "options", "request_id", "settled")

    dialect = frames.DIALECT_JSON
    allowance: Allowance | None
    lane: Queue

    def __init__(self, body: bytes, options: int = 0) -> None:
        self.body = body
        self.options = options
        self.settled = False
        self.request_id = ""
        self.arrived = 0.0
        self.deadline = 0.0

    def identify(self) -> str:
        """Return the request id, which its answer will have, too."""
        return self.request_id

    def lose_replica(self, name: str) -> None:
        """Hear that the replica of the model `name` was lost that worked on it; it is retried unless it ends now."""

    def answered(self, reply: Reply) -> None:
        raise NotImplementedError

    def failed(self, error: PrismError) -> None:
        raise NotImplementedError

    def fail(self, error: PrismError) -> None:
        """End the request with an error, unless it has ended."""
        if not self.settled:
            self.settled = True
            self.lane.tally.count([error.status])
            self.failed(error)


class AwaitableRequest(PendingRequest):
    """A request whose sender awaits `reply`."""

    __slots__ = ("dialect", "reply")

    def __init__(self, body: bytes, options: int, dialect: int = frames.DIALECT_JSON, request_id: str = "") -> None:
        super().__init__(body, options)
        self.dialect = dialect
        self.request_id = request_id
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def answer(self) -> Reply:
        """Wait for the answer. Raises errors of app.errors. If the wait is cancelled, the request is dropped."""
        try:
            return await self.reply
        finally:
            self.settled = True  # nobody waits for it any more, whatever ended the wait

    def answered(self, reply: Reply) -> None:
        if not self.reply.done():  # the wait was cancelled a moment ago
            self.reply.set_result(reply)

    def failed(self, error: PrismError) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class Prediction(Struct, frozen=True):
    """The complete answer to a predict request."""

    status: int
    body: bytes
    content_type: str
    headers: dict[str, str]
