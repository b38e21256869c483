"""The split of an experiment: each key meets the same arm, in every gateway and after each restart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from app.access.rate_limit import Allowance
from app.core.rollout.feedback import Exposure
from app.core.rollout.keys import NOBODY, Identity, KeySource, key_of, sealed
from app.core.rollout.split import arm_of
from app.core.route import Arm
from app.dispatch.batch import Lane
from app.dispatch.request import PendingRequest
from app.dispatch.route import Split
from app.dispatch.stream import Stream
from model_container.contract import frames

KEYS_MAX = 50_000
REQUESTS_MAX = 50_000
"""How many of the latest requests are remembered, for feedback by request id: about 20 MB at most."""

JSON_DIALECTS = (frames.DIALECT_JSON, frames.DIALECT_V1, frames.DIALECT_MLFLOW, frames.DIALECT_GENERATE)


class Exposures:
    """The keys that met an arm, and the latest requests with a key. Its memory is bounded.

    Keys beyond KEYS_MAX between two calls of `take` are not recorded; they meet their arm all the same.
    """

    def __init__(self, rollout_id: str) -> None:
        self.rollout_id = rollout_id
        self._taken: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._requests: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def note(self, key: str, model_id: str, request_id: str) -> None:
        """Remember that an arm answers a request. key: a digest."""
        if key not in self._taken and len(self._new) < KEYS_MAX:
            self._new.setdefault(key, model_id)
        if len(self._requests) >= REQUESTS_MAX:
            self._requests.popitem(last=False)
        self._requests[request_id] = (key, model_id)

    def take(self) -> dict[str, str]:
        """Return the arms of keys that came since the last call. A key may come again after many others."""
        taken, self._new = self._new, {}
        if len(self._taken) >= KEYS_MAX:
            self._taken.clear()
        self._taken.update(taken)
        return taken

    def find(self, request_id: str) -> Exposure | None:
        found = self._requests.get(request_id)
        return Exposure(self.rollout_id, found[1], found[0]) if found is not None else None


class KeyedSplit(Split):
    """The lanes of an experiment. The key of a request decides its lane; one without a key meets any of them.

    A request without a key is no part of the experiment: it is not noted.
    """

    __slots__ = ("_by_arm", "_exposures", "_source", "arms")

    def __init__(
        self, arms: Sequence[tuple[Lane, float]], place: float, source: KeySource, exposures: Exposures
    ) -> None:
        super().__init__(arms, place)
        self.arms = tuple(Arm(lane.endpoint.model_id, weight) for lane, weight in arms)
        self._by_arm = {lane.endpoint.model_id: lane for lane, _ in arms}
        self._source = source
        self._exposures = exposures

    def submit(self, request: PendingRequest, now: float) -> None:
        key = key_of(self._source, request.identity, json_of(request.body, request.dialect))
        if key:
            lane = request.lane = self._lane(key, request.identify())
        else:
            lane = request.lane = self.next()
        lane.submit(request, now)

    def stream(
        self, request: frames.Request, allowance: Allowance | None, request_id: str, identity: Identity = NOBODY
    ) -> Stream:
        key = key_of(self._source, identity, json_of(request.body, request.dialect))
        return Stream(self._lane(key, request_id) if key else self.next(), request, allowance)

    def _lane(self, key: str, request_id: str) -> Lane:
        salt = self._exposures.rollout_id
        model_id = arm_of(key, salt, self.arms)
        self._exposures.note(sealed(key, salt), model_id, request_id)
        return self._by_arm[model_id]


def json_of(body: bytes, dialect: int) -> bytes:
    """Return the JSON of a request's body; b"" if it is not JSON."""
    if dialect == frames.DIALECT_V2_BINARY:
        start = frames.JSON_LENGTH.size
        return body[start : start + frames.JSON_LENGTH.unpack_from(body)[0]]
    return body if dialect in JSON_DIALECTS else b""
