"""Streams of an image that runs by itself; see stream_forms.py for their forms, http_routes.py for the paths."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, Callable, Dict, Generator

from model_container.bodies.problems import Problem
from model_container.contract.frames import FORM_PROBLEM, Answer
from model_container.contract.stream_forms import StreamForm
from model_container.server.stream import Items

Tell = Callable[[Problem], bytes]
"""A problem as clients of the path read it."""


Parts = Generator[bytes, None, None]


def parts_of(items: Items, form: StreamForm, tell: Tell) -> Parts:
    """The body of the answer, as the model makes it; the first item is made before this returns. Raises Problem."""
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
    """Raises Problem for an answer that tells one."""
    if answer.form != FORM_PROBLEM:
        return answer
    said: Dict[str, Any] = json.loads(answer.body)
    code, detail, hint = said.pop("code"), said.pop("detail"), said.pop("hint", "")
    raise Problem(answer.status, code, detail, hint, **said)


def in_chunks(parts: Parts) -> Parts:
    """As `Transfer-Encoding: chunked`; RFC 9112, 7.1."""
    with closing(parts):
        for part in parts:
            if part:
                yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"
