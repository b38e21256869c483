"""Finds the Python that compiled a function. Bytecode has no version number, and another Python crashes on it.

Opcode numbers as in `Lib/opcode.py` (3.11, 3.12) and `Lib/_opcode_metadata.py` (3.13, 3.14) of each Python. Every
function begins with RESUME 0, behind the instructions that set up closures and generators.
"""

from __future__ import annotations

from typing import Final

RESUME: Final = {(151, 0): ">=3.11,<3.13", (149, 0): "==3.13.*", (128, 0): "==3.14.*"}
BEFORE_RESUME: Final = frozenset({149, 135, 75, 1} | {62, 94, 35, 32})
"""COPY_FREE_VARS, MAKE_CELL, RETURN_GENERATOR and POP_TOP of 3.11 and 3.12, and of 3.13."""
PRECALL, CALL, RETURN_CONST = 166, 171, 121
"""3.11 has PRECALL before every CALL; 3.12 has no PRECALL, and RETURN_CONST, which 3.11 has not."""


def python_of(code: bytes) -> str:
    """Return the PEP 440 specifier of the Pythons that write such `co_code`; "" where it does not tell."""
    for instruction in zip(code[::2], code[1::2], strict=False):
        if instruction in RESUME:
            return _narrowed(RESUME[instruction], set(code[::2]))
        if instruction[0] not in BEFORE_RESUME:
            return ""
    return ""


def _narrowed(specifier: str, opcodes: set[int]) -> str:
    if specifier != RESUME[151, 0]:
        return specifier
    if PRECALL in opcodes:
        return "==3.11.*"
    return "==3.12.*" if opcodes & {CALL, RETURN_CONST} else specifier
