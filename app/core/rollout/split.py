"""Assigns keys to arms, so that a caller meets the same arm each time, in every gateway and after each restart."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import log

from app.core.route import Arm

HASHES = 1 << 64


def arm_of(key: str, salt: str, arms: Sequence[Arm]) -> str:
    """Return the model_id of the arm to which a key belongs. About 3 µs for each arm.

    It is the arm with the least −ln(u)/weight, where u in (0, 1] is a hash of salt, arm and key: weighted rendezvous
    hashing. Each arm has its weight's share of the keys. A new arm, or more weight of one, moves keys into that arm and
    no others. salt: the id of the experiment, so that two experiments divide the same callers independently.

    Raises ValueError if no arm has a weight.
    """
    return min((arm for arm in arms if arm.weight > 0), key=lambda arm: _distance(key, salt, arm)).model_id


def _distance(key: str, salt: str, arm: Arm) -> float:
    # The lengths keep salt, arm and key apart whatever characters they have.
    parts = [part.encode("utf-8", "surrogatepass") for part in (salt, arm.model_id, key)]
    text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return -log((int.from_bytes(blake2b(text, digest_size=8).digest(), "big") + 1) / HASHES) / arm.weight
