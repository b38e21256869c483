"""Predictions as streams over HTTP, in the forms of model_container/contract/stream_forms.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.dispatch.response import problem_document
from app.dispatch.stream import Stream, end_document
from app.error_shapes import ErrorForm
from app.errors import PrismError
from model_container.contract.stream_forms import HEADERS, StreamForm

ALIVE_SECONDS = 15.0
"""After this long without an item, a stream of events sends a keep-alive; proxies cut a connection that is silent for
a minute.
"""

Document = dict[str, Any]
encode = msgspec.json.encode


_EXAMPLES = {
    "text/event-stream": 'id: 0\ndata: "one"\n\nevent: end\ndata: {"model": "m", "version": "1.0.0", "items": 1}\n\n',
    "application/x-ndjson": '{"item": "one"}\n{"end": {"model": "m", "version": "1.0.0", "items": 1}}\n',
}
ANSWERS: dict[int | str, Document] = {
    200: {
        "description": "All predictions; or, if `Accept` asks for it, a stream of them, item by item as the model makes them. "
        "A stream that fails after it started ends with an `error`, the problem document, in place of the `end`.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            **{kind: {"schema": {"type": "string"}, "example": example} for kind, example in _EXAMPLES.items()},
        },
    }
}
"""The OpenAPI responses of a route that answers either way."""


def problem_of(stream: Stream, request_id: str) -> Document:
    """Return the problem with which the runtime ended the stream."""
    assert stream.answer is not None
    return problem_document(stream.answer.body, stream.answer.status, request_id)


class Streamed(StreamingResponse):
    """A response that sends a stream's items.

    items: those that are there already. tell: turns an error into what the caller may learn of it. error_form: of
    errors on the path of the request.
    """

    def __init__(
        self,
        stream: Stream,
        items: list[bytes],
        form: StreamForm,
        tell: Callable[[PrismError], PrismError],
        request_id: str,
        error_form: ErrorForm,
        headers: dict[str, str],
    ) -> None:
        self._stream = stream
        self._items = items
        self._form = form
        self._tell = tell
        self._request_id = request_id
        self._error_form = error_form
        super().__init__(self._parts(), 200, {**headers, **HEADERS}, form.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()  # even if the client has left

    async def _parts(self) -> AsyncIterator[bytes]:
        stream, form, number = self._stream, self._form, 0
        items = self._items
        while items or not stream.is_over:
            if items:
                yield b"".join([form.item(number + index, body) for index, body in enumerate(items)])
                number += len(items)
            elif number:
                yield form.alive
            items = await stream.take(ALIVE_SECONDS)
        yield form.error(encode(self._problem())) if stream.has_failed else form.end(encode(end_document(stream)))

    def _problem(self) -> Document:
        error = self._stream.error
        if error is None:
            document = problem_of(self._stream, self._request_id)
        else:
            document = {**self._tell(error).problem(), "request_id": self._request_id}
        return self._error_form(document)[0]
