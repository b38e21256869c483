"""A prediction through FastAPI, the same for every protocol: admit the caller, read the body, predict, answer.

Each protocol's routes say what it takes and how it answers: native.py, simple.py, v1.py, v2/rest.py, mlflow.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request, Response
from msgspec import Struct, structs
from starlette.requests import ClientDisconnect

from app.access.admission import Admission
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import AwaitableRequest, Call, Reply
from app.dispatch.response import answer_body, answer_headers, problem_document
from app.dispatch.stream import Stream, stream_headers
from app.http import compression
from app.http.bodies import check_content_type, limited_body
from app.http.guard import api_key, caller_address, is_direct_request
from app.http.problems import error_form, problem_response, request_id_of
from app.protocols.callers import Caller, Callers
from app.protocols.streaming import Streamed, problem_of
from model_container.contract import frames
from model_container.contract.stream_forms import StreamForm

JSON = "application/json"
CSV = "text/csv"
T = TypeVar("T")


def request_body(content: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI of a route with a body. content: its schema and example, by content type."""
    return {"requestBody": {"required": True, "content": content}}


class Answer(Struct, frozen=True):
    """A reply in the form of a protocol. headers: the protocol's own."""

    body: bytes
    media_type: str = JSON
    headers: dict[str, str] = {}


Encode = Callable[[AwaitableRequest, Reply], Answer]


def whole(request: AwaitableRequest, reply: Reply) -> Answer:
    """Return the runtime's answer, preceded by the names of the model and its version."""
    return Answer(answer_body(request, reply, ""))


def bare(request: AwaitableRequest, reply: Reply) -> Answer:
    """Return the answer as the runtime wrote it."""
    return whole(request, structs.replace(reply, names=b""))


class InferenceHandler:
    """The part of a prediction that all routes of one surface share."""

    def __init__(self, dispatcher: Dispatcher, admission: Admission, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._admission = admission
        self._callers = Callers(admission, dispatcher.refusals)
        self._max_body_bytes = max_body_bytes

    @property
    def live_names(self) -> list[str]:
        """The names of the models that take traffic, sorted."""
        return sorted({lane.endpoint.name for lane in self._dispatcher.lanes})

    def admit(self, request: Request, ref: str) -> str:
        """Return the name under which the caller is counted. Raises RateLimited, Unauthorized, then NotFound."""
        return self._callers.admit(caller_of(request), ref)

    def caller(self, request: Request) -> str:
        """Return the name under which the caller is counted, before it is known which model is asked.

        Raises RateLimited, Unauthorized.
        """
        return self._callers.identify(caller_of(request))

    async def call(
        self,
        request: Request,
        ref: str,
        *types: str,
        dialect: int = frames.DIALECT_JSON,
        probabilities: bool = False,
        strict: bool = False,
        as_csv: bool = False,
        errors: bool = False,
    ) -> Call:
        """Make a call from a request: admit the caller, check the body's content type, then read the body.

        types: accepted content types besides JSON. Raises what `admit`, `check_content_type` and `body` raise.
        """
        caller = self.admit(request, ref)
        check_content_type(request.headers.get("content-type", ""), *types)
        body = await self.body(request)
        return Call(ref, body, caller, probabilities, request_id_of(request), dialect, strict, as_csv, errors)

    async def body(self, request: Request) -> bytes:
        """Read the body. Raises TooLarge, BadInput, UnsupportedFormat; see app/http/bodies.py."""
        return await limited_body(request, self._max_body_bytes)

    async def ask(self, request: Request, call: Call, encode: Encode = whole, packs: bool = True) -> Response:
        """Predict, and return the answer as `encode` makes it, or the runtime's problem. Raises errors of app.errors.

        packs: whether the answer may be compressed.
        """
        pending = self._dispatcher.begin(call)
        reply = await or_client_disconnect(request, pending.answer(), pending.reply.cancel)
        headers = answer_headers(pending, reply)
        if reply.form == frames.FORM_PROBLEM:
            document = problem_document(reply.body, reply.status, call.request_id)
            return problem_response(document, call.request_id, headers, error_form(request.scope, request.url.path))
        answer = encode(pending, reply)
        headers.update(answer.headers)
        body = await compressed_if_accepted(request, answer.body, headers) if packs else answer.body
        return Response(body, headers=headers, media_type=answer.media_type)

    async def stream(self, request: Request, call: Call, form: Callable[[Stream], StreamForm]) -> Response:
        """Predict, and return the items as they are made, or the problem before the first one.

        Raises errors of app.errors.
        """
        stream = self._dispatcher.stream(call)
        beginning = asyncio.ensure_future(stream.first())
        try:
            items = await or_client_disconnect(request, beginning, beginning.cancel)
        except BaseException:
            beginning.cancel()
            stream.close()
            raise
        headers, errors = stream_headers(stream), error_form(request.scope, request.url.path)
        if items or not stream.has_failed:
            reporting = (self._admission.tell, call.request_id, errors)
            return Streamed(stream, items, form(stream), *reporting, headers)
        stream.close()
        if stream.error is not None:
            raise stream.error
        return problem_response(problem_of(stream, call.request_id), call.request_id, headers, errors)


def caller_of(request: Request) -> Caller:
    return Caller(api_key(request.headers), caller_address(request), request_id_of(request), is_direct_request(request))


async def or_client_disconnect(request: Request, answer: Awaitable[T], cancel: Callable[[], object]) -> T:
    """Return the result of `answer`. If the client leaves first, call `cancel` and raise ClientDisconnect."""
    leaving = asyncio.ensure_future(request.receive())

    def drop(_: object) -> None:
        if not leaving.cancelled() and leaving.exception() is None and leaving.result()["type"] == "http.disconnect":
            cancel()

    leaving.add_done_callback(drop)
    try:
        return await answer
    except asyncio.CancelledError:
        if leaving.done():
            raise ClientDisconnect from None
        raise
    finally:
        leaving.cancel()


async def compressed_if_accepted(request: Request, body: bytes, headers: dict[str, str]) -> bytes:
    """Compress the body if the client accepts that and it is long enough to be worth it.

    Adds the headers that say so.
    """
    if len(body) < compression.MIN_BYTES:
        return body
    headers["Vary"] = "Accept-Encoding"
    encoding = compression.negotiate_encoding(request.headers.get("accept-encoding", ""))
    if not encoding:
        return body
    headers["Content-Encoding"] = encoding
    return await asyncio.to_thread(compression.compressed, body, encoding)
