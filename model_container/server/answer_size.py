"""How large an answer may be, as the gateway said when it connected. It closes the connection on a larger one."""

from __future__ import annotations

from typing import List, Sequence

from model_container.bodies.problems import Problem
from model_container.contract.frames import ANSWERS_BYTES_MAX, Answer

ROOM_FOR_A_PROBLEM = 1024


def answer_too_large(size: int, limit: int) -> Problem:
    return Problem(
        500,
        "answer_too_large",
        f"The answer has {size} bytes, and may have {limit}.",
        "Ask for fewer rows at a time, or raise PRISM_MAX_ANSWER_MB.",
    )


def within(answers: Sequence[Answer], limit: int) -> List[Answer]:
    """The answers to one batch, with a problem in place of each that is too large, or finds no room beside the others."""
    room = max(limit, ANSWERS_BYTES_MAX) - ROOM_FOR_A_PROBLEM * len(answers)
    kept = []
    for answer in answers:
        allowed = min(limit, room)
        kept.append(answer if len(answer.body) <= allowed else answer_too_large(len(answer.body), allowed).answer())
        room -= len(kept[-1].body)
    return kept
