"""Streaming responses of an image without a gateway; stream_forms.py has the forms, http_routes.py the paths."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, Callable, Dict, Generator

from model_container.bodies.problems import Problem
from model_container.contract.frames import FORM_PROBLEM, Answer
from model_container.contract.stream_forms import StreamForm
from model_container.server.stream import Items

Tell = Callable[[Problem], bytes]
"""Function that renders a problem as clients of the path expect it."""


Parts = Generator[bytes, None, None]


def parts_of(items: Items, form: StreamForm, tell: Tell) -> Parts:
    """Yield the response body as the model produces it. The first item is produced before this returns.

    Raises Problem.
    """
    try:
        return _parts(next(items), items, form, tell)
    except StopIteration as end:
        return _only(form.end(checked(end.value.answer).body))


def _parts(body: bytes, items: Items, form: StreamForm, tell: Tell) -> Parts:
    number = 0
    try:
        while True:
            yield form.item(number, body)
            number += 1
            try:
                body = next(items)
            except StopIteration as end:
                yield _ending(end.value.answer, form, tell)
                return
    finally:
        items.close()


def _only(part: bytes) -> Parts:
    yield part


def _ending(answer: Answer, form: StreamForm, tell: Tell) -> bytes:
    try:
        checked(answer)
    except Problem as problem:
        return form.error(tell(problem))
    return form.end(answer.body)


def checked(answer: Answer) -> Answer:
    """Return the answer. Raises Problem if the answer is one."""
    if answer.form != FORM_PROBLEM:
        return answer
    document: Dict[str, Any] = json.loads(answer.body)
    code, detail, hint = document.pop("code"), document.pop("detail"), document.pop("hint", "")
    raise Problem(answer.status, code, detail, hint, **document)


def in_chunks(parts: Parts) -> Parts:
    """Encode the parts as `Transfer-Encoding: chunked` (RFC 9112, section 7.1)."""
    with closing(parts):
        for part in parts:
            if part:
                yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"
