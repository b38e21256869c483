"""Copies of a name's requests, for a version whose answers no caller gets.

A request is copied after its caller has the answer, and only if that is a good one. So a copy never delays an answer,
and whatever its version makes of it, another version has answered the same request. Most requests are only counted:
whether one is to be copied is decided before it is queued, and the others take the way that they would take without a
rollout.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from time import monotonic

from app.core.rollout.records import ShadowAnswer, ShadowPair
from app.core.route import CopyBounds
from app.dispatch.batch import Lane
from app.dispatch.request import PendingRequest, Reply
from app.dispatch.rollout.evidence import Ledger, Outcome, cause_of, has_succeeded
from app.dispatch.rollout.nonsense import is_nonsense, may_be_not_finite
from app.dispatch.rollout.overdue import Lateness
from app.errors import Overloaded, PrismError, ReplicaProtocolError, ReplicaUnavailable
from model_container.contract import frames

BOOST_SHARE = 0.1
"""Share of the time in which a boosted candidate may work on copies, as a request of a caller may have to wait for one."""

PAIRS_A_REPEAT = 50
"""Number of pairs of which one has a second answer of production, to see how much its answers to one request differ."""


class Copies:
    """Copies for one version, within bounds. open_at: when the rate allows the next one, in monotonic seconds."""

    def __init__(self, lane: Lane, bounds: CopyBounds, ledger: Ledger) -> None:
        self._ledger = ledger
        self._in_flight = 0
        self._held_bytes = 0
        self._next_at = 0.0
        self.open_at = 0.0
        self.bind(lane, bounds)

    def bind(self, lane: Lane, bounds: CopyBounds) -> None:
        """Send copies to this lane, within these bounds, from now on. Those under way count on."""
        self.lane = lane
        self.bounds = bounds
        self.open_at = self._next_at if bounds.per_second and bounds.in_flight else inf

    def submit(self, request: PendingRequest, lane: Lane, now: float) -> None:
        """Queue a request at the lane that answers it, and copy it later if there is room for that.

        Not to be called before `open_at`. Raises what `Lane.submit` raises.
        """
        request.lane = lane
        if self._takes(request):
            self._count(now)
            lane.submit(_Observed(self, request, lane), now)
        else:
            lane.submit(request, now)

    def _takes(self, request: PendingRequest) -> bool:
        """Return whether there is room for a copy of a request."""
        return self._has_room(len(request.body))

    def _has_room(self, size_bytes: int) -> bool:
        bounds = self.bounds
        return self._in_flight < bounds.in_flight and self._held_bytes + size_bytes <= bounds.held_bytes

    def _count(self, now: float) -> None:
        """Count a copy for the rate. As many as may be in flight may come at once."""
        bounds = self.bounds
        self._next_at = max(self._next_at, now) + 1 / bounds.per_second
        self.open_at = self._next_at - bounds.in_flight / bounds.per_second

    def begin(self, copied: Copied) -> None:
        """Send a copy of a request that was answered."""
        raise NotImplementedError

    def _send(self, copy: _Copy, lane: Lane) -> None:
        """Queue a copy. What the lane raises is its outcome."""
        self._in_flight += 1
        self._held_bytes += copy.held_bytes
        self._ledger.sent += lane is self.lane
        copy.lane = lane
        try:
            lane.submit(copy, monotonic())
        except PrismError as error:
            copy.fail_unqueued(error)

    def back(self, copy: _Copy, outcome: Outcome) -> None:
        """Take the outcome of a copy. Called once for each."""
        self._in_flight -= 1
        self._held_bytes -= copy.held_bytes


class Copied:
    """A request that was answered. reply: the good answer, which took `seconds`. lane: that gave it."""

    __slots__ = ("body", "dialect", "lane", "options", "reply", "request_id", "seconds")

    def __init__(self, request: PendingRequest, lane: Lane, reply: Reply, request_id: str, seconds: float) -> None:
        self.body, self.options, self.dialect = request.body, request.options, request.dialect
        self.lane = lane
        self.reply = reply
        self.request_id = request_id
        self.seconds = seconds


class _Observed(PendingRequest):
    """A caller's request that is to be copied once it is answered."""

    __slots__ = ("_copies", "_is_over", "_request", "dialect")

    def __init__(self, copies: Copies, request: PendingRequest, lane: Lane) -> None:
        super().__init__(request.body, request.options)
        self.dialect = request.dialect
        self.lane = lane
        self._copies = copies
        self._request = request

    @property
    def settled(self) -> bool:
        return self._is_over or self._request.settled

    @settled.setter
    def settled(self, is_over: bool) -> None:
        self._is_over = is_over

    def answered(self, reply: Reply) -> None:
        request_id = self._request.identify()
        self._request.settled = True
        self._request.answered(reply)
        if reply.status < 400:
            assert isinstance(self.lane, Lane)
            copied = Copied(self, self.lane, reply, request_id, monotonic() - self.arrived)
            asyncio.get_running_loop().call_soon(self._copies.begin, copied)

    def failed(self, error: PrismError) -> None:
        self._request.settled = True
        self._request.failed(error)


class _Copy(PendingRequest):
    """A copy on its way. held_bytes: of its body and of the answer that it is compared with. sent: when."""

    __slots__ = ("_copies", "_is_back", "copied", "dialect", "due", "held_bytes", "sent")

    def __init__(self, copies: Copies, copied: Copied) -> None:
        super().__init__(copied.body, copied.options)
        self.dialect = copied.dialect
        self.copied = copied
        self.held_bytes = len(copied.body) + len(copied.reply.body)
        self.sent = monotonic()
        self.due = 0.0
        self._copies = copies
        self._is_back = False

    def answered(self, reply: Reply) -> None:
        self._end(reply)

    def failed(self, error: PrismError) -> None:
        self._end(error)

    def fail_unqueued(self, error: PrismError) -> None:
        """End with the error for which the lane did not take it."""
        self.settled = True
        self._end(error)

    def _end(self, outcome: Outcome) -> None:
        if not self._is_back:
            self._is_back = True
            self._copies.back(self, outcome)


class Boost(Copies):
    """Copies for a candidate that is idle, which count as evidence, as if it had been asked first.

    One is under way at a time. lateness: of the split that the candidate is in now.
    """

    def __init__(self, lane: Lane, bounds: CopyBounds, ledger: Ledger, lateness: Lateness) -> None:
        super().__init__(lane, bounds, ledger)
        self.lateness = lateness
        self._copy: _BoostCopy | None = None

    @property
    def busy_until(self) -> float:
        """When the copy under way is overdue, in monotonic seconds; 0 if there is none."""
        copy = self._copy
        return 0.0 if copy is None else min(copy.due, copy.sent + self.lateness.overdue_seconds)

    def _takes(self, request: PendingRequest) -> bool:
        return not self.lane.pending and super()._takes(request)

    def _count(self, now: float) -> None:
        self._next_at = self.open_at = now + 1 / self.bounds.per_second

    def begin(self, copied: Copied) -> None:
        copy = _BoostCopy(self, copied)
        if self.lane.pending or self._copy is not None or not self._has_room(copy.held_bytes):
            return
        self.lateness.renew(copy.sent)
        copy.due = copy.sent + self.lateness.overdue_seconds
        self._copy = copy
        copy.clock.add(copy)
        self._send(copy, self.lane)

    def judge_overdue(self, copy: _BoostCopy) -> None:
        """Count a copy that takes too long, unless production took as long with the request."""
        copy.is_counted = True
        if copy.copied.seconds <= self.lateness.overdue_seconds:
            self._ledger.mirrored += 1
            self._ledger.count_bad(copy.copied.request_id, "overdue")

    def back(self, copy: _Copy, outcome: Outcome) -> None:
        super().back(copy, outcome)
        assert isinstance(copy, _BoostCopy)
        now = monotonic()
        self._copy = None
        rest = (now - copy.sent) * (1 / BOOST_SHARE - 1)
        self._next_at = max(self._next_at, now + rest)
        self.open_at = max(self.open_at, self._next_at)
        copy.clock.discard(copy)
        if copy.is_counted or isinstance(outcome, Overloaded):
            return
        ledger, copied = self._ledger, copy.copied
        ledger.mirrored += 1
        if isinstance(outcome, Reply) and is_nonsense(outcome):
            outcome = ReplicaProtocolError.of("its answer is not valid")
        if not has_succeeded(outcome):
            ledger.count_bad(copied.request_id, cause_of(outcome))
        elif may_be_not_finite(outcome) and not may_be_not_finite(copied.reply) and ledger.finite_only:
            ledger.count_bad(copied.request_id, "not finite")
        else:
            ledger.count_good(is_slow=now - copy.sent > self.lateness.slow_seconds)


class _BoostCopy(_Copy):
    """is_counted: whether it was counted as evidence, as it was overdue. clock: that finds out."""

    __slots__ = ("clock", "is_counted")

    def __init__(self, copies: Boost, copied: Copied) -> None:
        super().__init__(copies, copied)
        self.clock = copies.lateness.clock
        self.is_counted = False

    def pass_due(self) -> None:
        assert isinstance(self._copies, Boost)
        self._copies.judge_overdue(self)

    def lose_replica(self, name: str) -> None:
        self.fail(ReplicaUnavailable(f"The replica of `{name}` was lost while it worked on a copy."))


class Shadow(Copies):
    """Copies for the mirror of a route, and the pairs of answers, which wait for somebody who compares them.

    Whatever is beyond the bounds is dropped and counted.
    """

    def __init__(self, lane: Lane, bounds: CopyBounds, ledger: Ledger) -> None:
        super().__init__(lane, bounds, ledger)
        self._pairs: deque[ShadowPair] = deque()
        self._begun = 0

    def drop(self) -> None:
        """Count a request that is not copied."""
        self._ledger.dropped += 1

    def _takes(self, request: PendingRequest) -> bool:
        has_room = super()._takes(request)
        self._ledger.dropped += not has_room
        return has_room

    def begin(self, copied: Copied) -> None:
        copy = _ShadowCopy(self, copied)
        if not self._has_room(copy.held_bytes):
            self.drop()
            return
        self._begun += 1
        if self._begun % PAIRS_A_REPEAT == 0:
            self._send(_Repeat(self, copied, copy), copied.lane)
        else:
            self._send(copy, self.lane)

    def back(self, copy: _Copy, outcome: Outcome) -> None:
        super().back(copy, outcome)
        answer = _answer_of(outcome, monotonic() - copy.sent)
        if isinstance(copy, _Repeat):
            copy.shadow.again = answer if has_succeeded(outcome) else None
            copy.shadow.sent = monotonic()
            self._send(copy.shadow, self.lane)
            return
        assert isinstance(copy, _ShadowCopy)
        copied = copy.copied
        self._ledger.mirrored += 1
        production = _answer_of(copied.reply, copied.seconds)
        pair = ShadowPair(copied.request_id, production, answer, copy.again)
        if len(self._pairs) >= self.bounds.pairs or self._held_bytes + pair.size_bytes > self.bounds.held_bytes:
            self.drop()
            return
        self._held_bytes += pair.size_bytes
        self._pairs.append(pair)

    def take(self) -> list[ShadowPair]:
        """Return the pairs that came since the last call, the oldest first."""
        pairs = list(self._pairs)
        self._pairs.clear()
        self._held_bytes -= sum(pair.size_bytes for pair in pairs)
        return pairs


class _ShadowCopy(_Copy):
    """again: production's second answer, if it was asked twice."""

    __slots__ = ("again",)

    def __init__(self, copies: Shadow, copied: Copied) -> None:
        super().__init__(copies, copied)
        self.again: ShadowAnswer | None = None


class _Repeat(_Copy):
    """A copy for production itself, before the one for the shadow."""

    __slots__ = ("shadow",)

    def __init__(self, copies: Shadow, copied: Copied, shadow: _ShadowCopy) -> None:
        super().__init__(copies, copied)
        self.shadow = shadow


def _answer_of(outcome: Outcome, seconds: float) -> ShadowAnswer:
    if not isinstance(outcome, Reply):
        return ShadowAnswer(outcome.status, b"", seconds)
    return ShadowAnswer(outcome.status, outcome.body, seconds, is_binary=outcome.form == frames.FORM_V2_BINARY)
