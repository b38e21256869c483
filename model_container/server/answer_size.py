"""Size limit of an answer, set by the gateway in its HELLO. The gateway closes the connection on a larger answer."""

from __future__ import annotations

from typing import List, Sequence

from model_container.bodies.problems import Problem
from model_container.contract.frames import ANSWERS_BYTES_MAX, Answer

ROOM_FOR_A_PROBLEM = 1024


def answer_too_large(size: int, limit: int) -> Problem:
    return Problem(
        500,
        "answer_too_large",
        f"The answer has {size} bytes, but at most {limit} are allowed.",
        "Ask for fewer rows at a time, or raise PRISM_MAX_ANSWER_MB.",
    )


def within(answers: Sequence[Answer], limit: int) -> List[Answer]:
    """Return the answers to a batch, with a problem in place of each that is too large or no longer fits with the
    others.
    """
    room = max(limit, ANSWERS_BYTES_MAX) - ROOM_FOR_A_PROBLEM * len(answers)
    kept = []
    for answer in answers:
        allowed = min(limit, room)
        kept.append(answer if len(answer.body) <= allowed else answer_too_large(len(answer.body), allowed).answer())
        room -= len(kept[-1].body)
    return kept
