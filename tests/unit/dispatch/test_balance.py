"""Which replica is asked, decided from what each has in hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.dispatch.balance import replica_for_batch, replica_for_stream


@dataclass
class Candidate:
    """room: how many batches it may have in flight."""

    batches_away: int = 0
    streams: int = 0
    served: int = 0
    is_withheld: bool = False
    is_usable: bool = True
    room: int = 2

    def usable(self, now: float) -> bool:
        return self.is_usable

    def has_room(self, now: float) -> bool:
        return self.is_usable and not self.is_withheld and self.batches_away < self.room

    def idle(self, now: float) -> bool:
        return self.has_room(now) and not self.batches_away


LOST = Candidate(is_usable=False)
WITHHELD = Candidate(is_withheld=True)
IDLE = Candidate(served=9)
FRESH = Candidate(served=1)
BUSY = Candidate(batches_away=1)
FULL = Candidate(batches_away=2)


@pytest.mark.parametrize(
    ("replicas", "idle", "behind"),
    [
        ([], None, None),
        ([LOST, WITHHELD, FULL], None, None),
        ([FULL, BUSY], None, BUSY),
        ([BUSY, IDLE], IDLE, IDLE),
        ([IDLE, FRESH, BUSY], FRESH, FRESH),
        ([LOST, IDLE], IDLE, IDLE),
    ],
)
def test_a_batch_goes_to_the_replica_with_the_fewest_batches_then_the_fewest_requests(
    replicas: list[Candidate], idle: Candidate | None, behind: Candidate | None
) -> None:
    assert replica_for_batch(replicas, 0.0, False) is idle
    assert replica_for_batch(replicas, 0.0, True) is behind


def test_among_equals_the_first_is_asked() -> None:
    replicas = [Candidate(), Candidate()]
    assert replica_for_batch(replicas, 0.0, True) is replicas[0]
    assert replica_for_stream(replicas, 0.0) is replicas[0]


STREAMING = Candidate(streams=1)


@pytest.mark.parametrize(
    ("replicas", "chosen"),
    [
        ([], None),
        ([LOST], None),
        ([FULL, STREAMING], STREAMING),
        ([BUSY, STREAMING], BUSY),
        ([STREAMING, IDLE], IDLE),
        ([IDLE, FRESH], FRESH),
        ([WITHHELD, FULL], FULL),
        ([WITHHELD, LOST], WITHHELD),
    ],
)
def test_a_stream_goes_to_the_replica_with_the_least_to_do(replicas: list[Candidate], chosen: Candidate | None) -> None:
    """Even a full one takes a stream, which has a connection of its own; one that is withheld only as the last."""
    assert replica_for_stream(replicas, 0.0) is chosen
