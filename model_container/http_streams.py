"""Streams of an image that runs by itself, in the forms of the gateway; see http_routes.py for the paths.

text/event-stream                           server-sent events: an id and an item each, then `end` or `error`
application/x-ndjson, application/jsonl     {"item": …} a line, then {"end": …} or {"error": …}
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, Callable, Dict, Generator, Mapping, NamedTuple, Optional, Tuple

from model_container.frames import FORM_PROBLEM, Answer
from model_container.problems import Problem
from model_container.stream import Items

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""No proxy holds items back to send them in one go."""

Tell = Callable[[Problem], bytes]
"""A problem as clients of the path read it."""


class StreamForm(NamedTuple):
    """item: of its number and its JSON. end, error: of the JSON of what is told then."""

    media_type: str
    item: Callable[[int, bytes], bytes]
    end: Callable[[bytes], bytes]
    error: Callable[[bytes], bytes]


EVENTS = StreamForm(
    "text/event-stream; charset=utf-8",
    item=lambda number, body: b"id: %d\ndata: %b\n\n" % (number, body),
    end=lambda body: b"event: end\ndata: %b\n\n" % body,
    error=lambda body: b"event: error\ndata: %b\n\n" % body,
)
LINES = StreamForm(
    "application/x-ndjson",
    item=lambda _, body: b'{"item":%b}\n' % body,
    end=lambda body: b'{"end":%b}\n' % body,
    error=lambda body: b'{"error":%b}\n' % body,
)
_FORMS: Mapping[str, StreamForm] = {
    "text/event-stream": EVENTS,
    "application/x-ndjson": LINES,
    "application/jsonl": LINES._replace(media_type="application/jsonl"),
}


def generated_form(prefix: bytes) -> StreamForm:
    """Of the generate extension. prefix: the names that stand in front of an answer's members."""

    def item(_: int, body: bytes) -> bytes:
        return b"data: %b\n\n" % (prefix[:-1] + b"}" if body == b"{}" else prefix + body[1:])

    return StreamForm(EVENTS.media_type, item, lambda _: b"", lambda body: b"data: %b\n\n" % body)


def form_asked_for(accept: str) -> Optional[StreamForm]:
    """The form that an Accept header names; None if it names none, or prefers an ordinary answer."""
    weights: Dict[str, float] = dict(map(_weighed, accept.lower().split(",")))
    kind = max(_FORMS, key=lambda name: weights.get(name, 0.0))
    weight = weights.get(kind, 0.0)
    return _FORMS[kind] if weight > 0 and weight >= weights.get("application/json", 0.0) else None


def _weighed(part: str) -> Tuple[str, float]:
    kind, *parameters = (each.strip() for each in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return kind, float(value)
            except ValueError:
                return kind, 0.0
    return kind, 1.0


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
