"""Problems with single requests, in the terms of the problem document."""

from __future__ import annotations

from typing import Any, Dict

import msgspec

from model_container.contract.frames import FORM_PROBLEM, PROBLEM_BYTES_MAX, Answer

MAX_SHOWN = 80
MAX_SHORT = 2000


class Problem(Exception):
    """Request that cannot be answered: HTTP status, stable code, what happened, what to do next, and the values
    involved.
    """

    def __init__(self, status: int, code: str, detail: str, hint: str = "", **values: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.values = values

    def answer(self) -> Answer:
        document: Dict[str, Any] = {**self.values, "code": self.code, "detail": self.detail}
        if self.hint:
            document["hint"] = self.hint
        try:
            body = msgspec.json.encode(document)
        except (TypeError, ValueError):  # a lone surrogate, or a value that JSON cannot express
            plain = {key: str(value).encode("utf-8", "replace").decode() for key, value in document.items()}
            body = msgspec.json.encode(plain)
        if len(body) > PROBLEM_BYTES_MAX:  # for example with thousands of columns
            short = {"code": self.code, "detail": self.detail[:MAX_SHORT], "hint": self.hint[:MAX_SHORT]}
            body = msgspec.json.encode({key: text.encode("utf-8", "replace").decode() for key, text in short.items()})
        return Answer(body, self.status, FORM_PROBLEM)


def shown(value: object) -> str:
    """Quote a value as JSON, cut to a length that fits an error message."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
