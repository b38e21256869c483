"""Predictions as streams: which form a client asks for, and how its items, end and errors are written.

text/event-stream                           server-sent events
application/x-ndjson, application/jsonl     chunked, a JSON document a line
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from fastapi.responses import StreamingResponse
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from app.core.error_shapes import shaped
from app.dispatch.pipeline import complete_problem
from app.dispatch.stream import Stream, end_document
from app.errors import PrismError

ALIVE_SECONDS = 15.0
"""Of silence, after which a stream of events says that it goes on; proxies cut what is silent for a minute."""

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""No proxy holds items back to send them in one go."""

Document = dict[str, Any]


_EXAMPLES = {
    "text/event-stream": 'id: 0\ndata: "one"\n\nevent: end\ndata: {"model": "m", "version": "1.0.0", "items": 1}\n\n',
    "application/x-ndjson": '{"item": "one"}\n{"end": {"model": "m", "version": "1.0.0", "items": 1}}\n',
}
ANSWERS: dict[int | str, Document] = {
    200: {
        "description": "All predictions; or, as `Accept` asks, a stream of them, item by item as the model makes them. "
        "A stream that fails later on ends with an `error`, the problem document, in place of the `end`.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            **{kind: {"schema": {"type": "string"}, "example": one} for kind, one in _EXAMPLES.items()},
        },
    }
}
"""Of a route that answers either way, for its description."""


class StreamForm(Struct, frozen=True):
    """item: of its number and its JSON. alive: what may stand between two items and means nothing."""

    media_type: str
    item: Callable[[Stream, int, bytes], bytes]
    end: Callable[[Document], bytes]
    error: Callable[[Document], bytes]
    alive: bytes = b""


def _event(name: bytes, document: Document) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, msgspec.json.encode(document))


def _line(name: bytes, document: bytes) -> bytes:
    return b'{"%b":%b}\n' % (name, document)


EVENTS = StreamForm(
    "text/event-stream",
    item=lambda _, number, body: b"id: %d\ndata: %b\n\n" % (number, body),  # JSON has no line ends of its own
    end=lambda document: _event(b"end", document),
    error=lambda document: _event(b"error", document),
    alive=b": alive\n\n",
)
LINES = StreamForm(
    "application/x-ndjson",
    item=lambda _, __, body: _line(b"item", body),
    end=lambda document: _line(b"end", msgspec.json.encode(document)),
    error=lambda document: _line(b"error", msgspec.json.encode(document)),
)
FORMS = {
    "text/event-stream": EVENTS,
    "application/x-ndjson": LINES,
    "application/jsonl": msgspec.structs.replace(LINES, media_type="application/jsonl"),
}


def form_asked_for(accept: str) -> StreamForm | None:
    """The form of the stream that an Accept header names; None if it names none, or prefers an ordinary answer."""
    weights = dict(map(_weighed, accept.lower().split(",")))
    kind = max(FORMS, key=lambda name: weights.get(name, 0.0))
    weight = weights.get(kind, 0.0)
    return FORMS[kind] if weight > 0 and weight >= weights.get("application/json", 0.0) else None


def _weighed(part: str) -> tuple[str, float]:
    """A media range and its weight; RFC 9110, 12.5.1."""
    kind, *parameters = (each.strip() for each in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return kind, float(value)
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def problem_of(stream: Stream, request_id: str) -> Document:
    """The problem with which the runtime ended it."""
    assert stream.answer is not None
    document: Document = msgspec.json.decode(complete_problem(stream.answer.body, stream.answer.status, request_id))
    return document


class Streamed(StreamingResponse):
    """items: that are there already. tell: what of an error is told. path: that was asked, which decides an error's form."""

    def __init__(
        self,
        stream: Stream,
        items: list[bytes],
        form: StreamForm,
        tell: Callable[[PrismError], PrismError],
        request_id: str,
        path: str,
        headers: dict[str, str],
    ) -> None:
        self._stream = stream
        self._items = items
        self._form = form
        self._tell = tell
        self._request_id = request_id
        self._path = path
        super().__init__(self._parts(), 200, {**headers, **HEADERS}, form.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()  # also where its client has left

    async def _parts(self) -> AsyncIterator[bytes]:
        stream, form, number = self._stream, self._form, 0
        items = self._items
        while items or not stream.is_over:
            if items:
                yield b"".join([form.item(stream, number + index, body) for index, body in enumerate(items)])
                number += len(items)
            elif number:
                yield form.alive
            items = await stream.take(ALIVE_SECONDS)
        yield form.error(self._problem()) if stream.has_failed else form.end(end_document(stream))

    def _problem(self) -> Document:
        error = self._stream.error
        if error is None:
            document = problem_of(self._stream, self._request_id)
        else:
            document = {**self._tell(error).problem(), "request_id": self._request_id}
        return shaped(self._path, document)[0]
