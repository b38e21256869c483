"""What callers say later of the answers of an experiment: a sale, a complaint, the true label."""

from __future__ import annotations

from math import isfinite

from msgspec import Struct

from app.errors import BadInput


class Feedback(Struct, frozen=True):
    """One value of a metric. model_id: the arm that answered. key: by which the experiment tells callers apart.

    request_id: the request that it is about; "" for a value of the key as a whole. is_past: whether it is of the time
    before the experiment, which makes the intervals narrower. Raises BadInput for NaN and infinities.
    """

    rollout_id: str
    model_id: str
    key: str
    metric: str
    value: float
    at: str
    request_id: str = ""
    is_past: bool = False

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise BadInput(f"The value {self.value} of `{self.metric}` is not a finite number.", field="value")


class Exposure(Struct, frozen=True):
    """A key that met an arm. key: as it is recorded, a digest."""

    rollout_id: str
    model_id: str
    key: str


class KeyTotal(Struct, frozen=True):
    """The values of one metric that belong to one key, which is the unit that experiments compare.

    past: the sum of those from before the experiment; None without one.
    """

    model_id: str
    key: str
    count: int
    total: float
    past: float | None = None
