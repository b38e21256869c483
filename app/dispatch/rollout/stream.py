"""A stream that the candidate of a canary gets, and that the stable version answers if no first item comes."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from app.access.rate_limit import Allowance
from app.dispatch.rollout.evidence import cause_of, is_servers_fault
from app.dispatch.stream import Stream
from app.errors import PrismError, ReplicaTimeout
from model_container.contract.frames import Answer, Request

if TYPE_CHECKING:
    from app.dispatch.rollout.canary import CanarySplit


class CanaryStream(Stream):
    """A stream that is rescued before its first item, and never after it: the caller has seen what came.

    If both fail, the caller gets the stable version's failure. Evidence of the candidate alone is counted when the
    stream is closed; a caller that leaves before the first item is none.
    """

    def __init__(self, rules: CanarySplit, request: Request, allowance: Allowance | None, request_id: str) -> None:
        """Enter the candidate's lane, or the stable version's if that refuses. Raises what both raise."""
        self._rules = rules
        self._request_id = request_id
        self._cause_of_rescue = ""
        self._seconds_to_first = 0.0
        try:
            super().__init__(rules.candidate, request, allowance)
        except PrismError as error:
            if not rules.rescues:
                raise
            self._cause_of_rescue = cause_of(error)
            super().__init__(rules.stable, request, allowance)

    async def first(self) -> list[bytes]:
        """Begin the stream as `Stream.first` does, at the candidate and, if that fails, at the stable version."""
        if not self._cause_of_rescue:
            items = await self._first_of_candidate()
            if not self.has_failed or not self._rules.rescues:
                return items
            self._move()
        items = await super().first()
        if self.has_failed:
            self._rules.ledger.both_failed += 1
        else:
            self.rescued = self._rules.candidate.endpoint.version
            self._rules.ledger.rescued += 1
            self._rules.ledger.count_bad(self._request_id, self._cause_of_rescue)
        return items

    async def _first_of_candidate(self) -> list[bytes]:
        rules = self._rules
        rules.lateness.renew(monotonic())
        timer = asyncio.get_running_loop().call_later(rules.lateness.overdue_seconds, self._pass_due)
        try:
            return await super().first()
        finally:
            timer.cancel()
            self._seconds_to_first = monotonic() - self._arrived

    def _pass_due(self) -> None:
        if self._rules.rescues:
            self.end(ReplicaTimeout(f"The first item of `{self.lane.endpoint.name}` is overdue."))

    async def _cause(self, error: PrismError) -> PrismError | None:
        """Report the error itself at the candidate: the stable version need not wait for what ended the replica."""
        if self.lane is self._rules.stable or not self._rules.rescues:
            return await super()._cause(error)
        self._leave_after(error)
        return error

    def _move(self) -> None:
        """Go on at the stable version, if that admits the stream, as if nothing had happened."""
        rules, outcome = self._rules, self.error or self.answer
        assert outcome is not None
        self._cause_of_rescue = f"status {outcome.status}" if isinstance(outcome, Answer) else cause_of(outcome)
        self._leave()
        rules.candidate.streams.discard(self)
        rules.candidate.tally.count([self.status])
        self.lane, self._waits_since = rules.stable, self._arrived
        self.error = self.answer = None
        self._told_to_end = self._was_asked = False
        try:
            rules.stable.admit_stream(self, monotonic())
        except PrismError as error:
            self.end(error)

    def close(self) -> None:
        if not self._closed and not self._cause_of_rescue:
            self._count()
        super().close()

    def _count(self) -> None:
        """Count what the candidate alone made of the stream."""
        rules = self._rules
        if not self.has_failed:
            if self.items or self.answer is not None:
                rules.ledger.count_good(is_slow=self._seconds_to_first > rules.lateness.slow_seconds)
        elif self.error is not None and is_servers_fault(self.error):
            rules.ledger.count_bad(self._request_id, cause_of(self.error))
        elif self.answer is not None and self.answer.status >= 500:
            rules.ledger.count_bad(self._request_id, f"status {self.answer.status}")
