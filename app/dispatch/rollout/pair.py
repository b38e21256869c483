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


class Pair:
    """One caller's request, and how far the candidate and the stable version have come with it.

    due: when the candidate's answer is overdue, in monotonic seconds.
    """

    __slots__ = (
        "_arrived",
        "_candidates",
        "_cause",
        "_deadline",
        "_is_counted",
        "_rescued_at",
        "_rules",
        "_stables",
        "due",
        "request",
    )

    def __init__(self, rules: CanarySplit, request: PendingRequest, now: float) -> None:
        self._rules = rules
        self.request = request
        self._arrived = now
        self._deadline = now + rules.candidate.flow.timeout_seconds
        self.due = rules.due(now)
        self._candidates: Outcome | None = None  # what the candidate made of it, unless that is good
        self._stables: Outcome | None = None  # what the stable version made of it, unless that is good
        self._cause = ""  # why the stable version was asked
        self._rescued_at: float | None = None
        self._is_counted = False

    @property
    def can_be_rescued(self) -> bool:
        return self._rules.rescues

    def begin(self) -> None:
        """Queue the request at the candidate. Raises what both versions raise if neither takes it."""
        rules = self._rules
        self.request.lane = rules.candidate
        try:
            _AtCandidate(self).enter(rules.candidate, self._arrived, self._deadline)
        except PrismError as error:
            if not rules.rescues:
                rules.ledger.count_bad(self.request.identify(), cause_of(error))
                raise
            self._candidates, self._cause, self._rescued_at = error, cause_of(error), self._arrived
            try:
                self._ask_stable()
            except PrismError:
                rules.ledger.both_failed += 1
                raise
        else:
            rules.clock.add(self)

    def _ask_stable(self) -> None:
        assert self._rescued_at is not None
        _AtStable(self).enter(self._rules.stable, self._rescued_at, self._deadline)

    def _rescue(self, cause: str) -> None:
        self._cause, self._rescued_at = cause, monotonic()
        try:
            self._ask_stable()
        except PrismError as error:
            self.end_at_stable(error)

    def pass_due(self) -> None:
        """Have the stable version answer, as the candidate takes too long. Whichever is first answers the caller."""
        if self.request.settled:  # the caller has left
            return
        if self._rules.rescues:
            self._rescue("overdue")
        else:
            self._count_bad("overdue")

    def end_at_candidate(self, outcome: Outcome) -> None:
        rules = self._rules
        rules.clock.discard(self)
        if isinstance(outcome, Reply) and is_nonsense(outcome):
            outcome = ReplicaProtocolError.of("its answer is not valid")
        if not has_succeeded(outcome):
            self._fail_at_candidate(outcome)
        elif self._may_be_wrong(outcome):
            self._candidates = outcome
            self._rescue("not finite")
        else:
            self._accept(outcome)

    def _may_be_wrong(self, outcome: Reply) -> bool:
        """Return whether the stable version has to show that a value that is not finite is normal for this model."""
        rules = self._rules
        is_first = self._rescued_at is None
        return rules.rescues and rules.ledger.finite_only and is_first and may_be_not_finite(outcome)

    def _accept(self, outcome: Outcome) -> None:
        if not self._is_counted:
            took = monotonic() - self._arrived
            self._rules.ledger.count_good(is_slow=took > self._rules.lateness.slow_seconds)
        self._tell(self._rules.candidate, outcome)

    def _fail_at_candidate(self, outcome: Outcome) -> None:
        self._candidates = outcome
        if self._rescued_at is not None:
            if self._stables is not None:
                self._fail_at_both(self._stables)
        elif self._rules.rescues and monotonic() < self._deadline:
            self._rescue(cause_of(outcome))
        else:
            if is_servers_fault(outcome):
                self._count_bad(cause_of(outcome))
            self._tell(self._rules.candidate, outcome)

    def _count_bad(self, cause: str) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._rules.ledger.count_bad(self.request.identify(), cause)

    def end_at_stable(self, outcome: Outcome) -> None:
        rules, candidates = self._rules, self._candidates
        rules.clock.discard(self)
        if self._cause == "not finite":
            assert isinstance(candidates, Reply)
            if not has_succeeded(outcome) or may_be_not_finite(outcome):
                rules.ledger.finite_only &= not has_succeeded(outcome)
                self._accept(candidates)
                return
        if not has_succeeded(outcome):
            self._stables = outcome
            if candidates is not None:
                self._fail_at_both(outcome)
            return
        assert self._rescued_at is not None
        if self._cause == "overdue" and monotonic() - self._rescued_at > rules.lateness.overdue_seconds:
            rules.ledger.both_failed += 1  # the host is slow, not the candidate
        else:
            self._count_bad(self._cause)
        rules.ledger.rescued += 1
        self._tell(rules.stable, structs.replace(outcome, rescued=rules.candidate.endpoint.version))

    def _fail_at_both(self, stables: Outcome) -> None:
        rules, candidates = self._rules, self._candidates
        assert candidates is not None
        rules.ledger.both_failed += 1
        if isinstance(candidates, Reply) and not isinstance(stables, Reply):
            self._tell(rules.candidate, candidates)
        else:
            self._tell(rules.stable, stables)

    def _tell(self, lane: Lane, outcome: Outcome) -> None:
        request = self.request
        request.lane, request.settled = lane, True
        if isinstance(outcome, Reply):
            request.answered(outcome)
        else:
            request.failed(outcome)


class _Attempt(PendingRequest):
    """A caller's request as one version gets it; it is settled at the latest when the caller's is."""

    __slots__ = ("_is_over", "dialect", "pair")

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.request.body, pair.request.options)
        self.dialect = pair.request.dialect
        self.pair = pair

    @property
    def settled(self) -> bool:
        return self._is_over or self.pair.request.settled

    @settled.setter
    def settled(self, is_over: bool) -> None:
        self._is_over = is_over

    def enter(self, lane: Lane, now: float, deadline: float) -> None:
        """Queue at a lane. Raises what `Lane.submit` raises."""
        self.lane = lane
        lane.submit(self, now)
        self.deadline = min(self.deadline, deadline)

    def answered(self, reply: Reply) -> None:
        self._end(reply)

    def failed(self, error: PrismError) -> None:
        if self.pair.request.settled:  # its answer could not be delivered
            self.pair.request.failed(error)
        else:
            self._end(error)

    def _end(self, outcome: Outcome) -> None:
        raise NotImplementedError


class _AtCandidate(_Attempt):
    __slots__ = ()

    def lose_replica(self, name: str) -> None:
        """End at once, as the stable version need not wait until it is known what ended the replica."""
        if self.pair.can_be_rescued:
            self.fail(ReplicaUnavailable(f"The replica of `{name}` was lost while it worked on this request."))

    def _end(self, outcome: Outcome) -> None:
        self.pair.end_at_candidate(outcome)


class _AtStable(_Attempt):
    __slots__ = ()

    def _end(self, outcome: Outcome) -> None:
        self.pair.end_at_stable(outcome)
