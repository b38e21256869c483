"""A request that the candidate of a canary gets, and that the stable version answers if the candidate cannot.

What the two make of the same request is the evidence: the candidate is at fault only if the stable version does better.
The caller gets the first good answer. If there is none, it gets what it would have got without a rollout, which is the
stable version's answer; if that version gave none (its queue is full, its replica was lost), the candidate's.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from msgspec import structs

from app.dispatch.batch import Lane
from app.dispatch.request import PendingRequest, Reply
from app.dispatch.rollout.evidence import Outcome, cause_of, has_succeeded, is_servers_fault
from app.dispatch.rollout.nonsense import is_nonsense, may_be_not_finite
from app.errors import PrismError, ReplicaProtocolError, ReplicaUnavailable

if TYPE_CHECKING:
    from app.dispatch.rollout.canary import CanarySplit


class Pair(PendingRequest):
    """A caller's request as the candidate gets it, and what became of it. It is settled when the caller's is.

    due: when the candidate's answer is overdue, in monotonic seconds.
    """

    __slots__ = ("_is_counted", "_is_over", "_rescue", "_rules", "dialect", "due", "request")

    def __init__(self, rules: CanarySplit, request: PendingRequest) -> None:
        super().__init__(request.body, request.options)
        self.dialect = request.dialect
        self.request = request
        self.due = 0.0
        self._rules = rules
        self._rescue: _Rescue | None = None
        self._is_counted = False

    @property
    def settled(self) -> bool:
        return self._is_over or self.request.settled

    @settled.setter
    def settled(self, is_over: bool) -> None:
        self._is_over = is_over

    def begin(self, now: float) -> None:
        """Queue the request at the candidate. Raises what both versions raise if neither takes it."""
        rules = self._rules
        lane = self.lane = self.request.lane = rules.candidate
        try:
            lane.submit(self, now)
        except PrismError as error:
            self.deadline = now + lane.flow.timeout_seconds
            if not rules.rescues:
                rules.ledger.count_bad(self.request.identify(), cause_of(error))
                raise
            self._rescue = _Rescue(self, cause_of(error), now, error)
            try:
                self._rescue.enter(rules.stable)
            except PrismError:
                rules.ledger.both_failed += 1
                raise
        else:
            self.due = rules.due(now)
            rules.clock.add(self)

    def _begin_rescue(self, cause: str, outcome: Outcome | None) -> None:
        rescue = self._rescue = _Rescue(self, cause, monotonic(), outcome)
        try:
            rescue.enter(self._rules.stable)
        except PrismError as error:
            self.end_at_stable(rescue, error)

    def pass_due(self) -> None:
        """Have the stable version answer, as the candidate takes too long. Whichever is first answers the caller."""
        if self.request.settled:  # the caller has left
            return
        if self._rules.rescues:
            self._begin_rescue("overdue", None)
        else:
            self._count_bad("overdue")

    def lose_replica(self, name: str) -> None:
        """End at once, as the stable version need not wait until it is known what ended the replica."""
        if self._rules.rescues:
            self.fail(ReplicaUnavailable(f"The replica of `{name}` was lost while it worked on this request."))

    def answered(self, reply: Reply) -> None:
        rules = self._rules
        rules.clock.discard(self)
        if is_nonsense(reply):
            self._fail_at_candidate(ReplicaProtocolError.of("its answer is not valid"))
        elif not has_succeeded(reply):
            self._fail_at_candidate(reply)
        elif rules.rescues and self._rescue is None and rules.ledger.finite_only and may_be_not_finite(reply):
            self._begin_rescue("not finite", reply)
        else:
            self._accept(reply)

    def failed(self, error: PrismError) -> None:
        if self.request.settled:  # its answer could not be delivered
            self.request.failed(error)
            return
        self._rules.clock.discard(self)
        self._fail_at_candidate(error)

    def _accept(self, reply: Reply) -> None:
        if not self._is_counted:
            is_slow = monotonic() - self.arrived > self._rules.lateness.slow_seconds
            self._rules.ledger.count_good(is_slow)
        self._tell(self._rules.candidate, reply)

    def _fail_at_candidate(self, outcome: Outcome) -> None:
        rescue = self._rescue
        if rescue is not None:
            rescue.of_candidate = outcome
            self._fail_if_both_have(rescue)
        elif self._rules.rescues and monotonic() < self.deadline:
            self._begin_rescue(cause_of(outcome), outcome)
        else:
            if is_servers_fault(outcome):
                self._count_bad(cause_of(outcome))
            self._tell(self._rules.candidate, outcome)

    def _count_bad(self, cause: str) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._rules.ledger.count_bad(self.request.identify(), cause)

    def end_at_stable(self, rescue: _Rescue, outcome: Outcome) -> None:
        """Take what the stable version made of the request."""
        rules = self._rules
        rules.clock.discard(self)
        if rescue.cause == "not finite" and (not has_succeeded(outcome) or may_be_not_finite(outcome)):
            assert isinstance(rescue.of_candidate, Reply)
            rules.ledger.finite_only &= not has_succeeded(outcome)
            self._accept(rescue.of_candidate)
        elif not has_succeeded(outcome):
            rescue.of_stable = outcome
            self._fail_if_both_have(rescue)
        else:
            if rescue.cause == "overdue" and monotonic() - rescue.begun > rules.lateness.overdue_seconds:
                rules.ledger.both_failed += 1  # the host is slow, not the candidate
            else:
                self._count_bad(rescue.cause)
            rules.ledger.rescued += 1
            self._tell(rules.stable, structs.replace(outcome, rescued=rules.candidate.endpoint.version))

    def _fail_if_both_have(self, rescue: _Rescue) -> None:
        """Give the caller a failure once both versions have failed; until then, the other one may still answer."""
        of_candidate, of_stable, rules = rescue.of_candidate, rescue.of_stable, self._rules
        if of_candidate is None or of_stable is None:
            return
        rules.ledger.both_failed += 1
        if isinstance(of_candidate, Reply) and not isinstance(of_stable, Reply):
            self._tell(rules.candidate, of_candidate)
        else:
            self._tell(rules.stable, of_stable)

    def _tell(self, lane: Lane, outcome: Outcome) -> None:
        request = self.request
        request.lane, request.settled = lane, True
        self._rescue = None  # breaks a reference cycle, as garbage collections are rare
        self.body = b""  # a candidate that hangs may hold the request for long
        if isinstance(outcome, Reply):
            request.answered(outcome)
        else:
            request.failed(outcome)


class _Rescue(PendingRequest):
    """The same request as the stable version gets it.

    cause: why it gets it. begun: when, in monotonic seconds. of_candidate, of_stable: what each made of it, once that
    is a failure; the candidate's answer also if it may not be finite.
    """

    __slots__ = ("_is_over", "_pair", "begun", "cause", "dialect", "of_candidate", "of_stable")

    def __init__(self, pair: Pair, cause: str, begun: float, of_candidate: Outcome | None) -> None:
        super().__init__(pair.body, pair.options)
        self.dialect = pair.dialect
        self.cause = cause
        self.begun = begun
        self.of_candidate = of_candidate
        self.of_stable: Outcome | None = None
        self._pair = pair

    @property
    def settled(self) -> bool:
        return self._is_over or self._pair.request.settled

    @settled.setter
    def settled(self, is_over: bool) -> None:
        self._is_over = is_over

    def enter(self, lane: Lane) -> None:
        """Queue at a lane, within the deadline of the pair. Raises what `Lane.submit` raises."""
        self.lane = lane
        lane.submit(self, self.begun)
        self.deadline = min(self.deadline, self._pair.deadline)

    def answered(self, reply: Reply) -> None:
        self._pair.end_at_stable(self, reply)

    def failed(self, error: PrismError) -> None:
        if self._pair.request.settled:  # its answer could not be delivered
            self._pair.request.failed(error)
        else:
            self._pair.end_at_stable(self, error)
