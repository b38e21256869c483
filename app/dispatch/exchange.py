"""One request that the fast path answers itself: how it is submitted, and how its answer or its problem is written."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from app.core.rollout.keys import Identity
from app.dispatch.head_cache import CachedHead, HeadCache
from app.dispatch.request import PendingRequest, Reply
from app.dispatch.response import answer_body, answer_header_lines, content_type, problem_document
from app.dispatch.v2 import inference_answer
from app.error_shapes import inference_error
from app.errors import PROBLEM_JSON, PrismError
from model_container.contract import frames


class Connection(Protocol):
    """The connection as an exchange needs it. address: the caller's. direct_caller: see HeadCache."""

    door: HeadCache
    address: str
    direct_caller: str

    def respond(self, status: int, kind: str, request_id: str, lines: str, body: bytes) -> None: ...


class _NoopEvent:
    """An event that does nothing: uvicorn sets one to wake the ASGI application, and here there is none."""

    def set(self) -> None:
        pass


class PredictExchange(PendingRequest):
    """One predict request on a connection. To uvicorn's protocol class it looks like the cycle of an ASGI request."""

    __slots__ = ("connection", "head")

    message_event = _NoopEvent()

    def __init__(self, connection: Connection, head: CachedHead, body: bytes) -> None:
        super().__init__(body, head.options)
        self.connection = connection
        self.head = head

    @property
    def response_complete(self) -> bool:
        return self.settled

    def begin(self) -> None:
        """Submit the request; its body is complete."""
        connection, head = self.connection, self.head
        try:
            caller = head.caller or (connection.direct_caller if head.is_direct else connection.address)
            connection.door.dispatcher.submit(head.ref, caller, self)
        except PrismError as error:
            self.settled = True
            self.failed(error)

    @property
    def identity(self) -> Identity:
        return self.head.identity

    def identify(self) -> str:
        self.request_id = self._request_id()
        return self.request_id

    def _request_id(self) -> str:
        return self.request_id or self.head.request_id or self.connection.door.new_request_id()

    def answered(self, reply: Reply) -> None:
        self.body = b""  # the connection may stay idle for long and must not keep the body in memory
        request_id = self._request_id()
        try:
            body = answer_body(self, reply, request_id)
        except PrismError as error:
            self.failed(error)
        else:
            self.connection.respond(
                reply.status, content_type(reply), request_id, answer_header_lines(self, reply), body
            )

    def failed(self, error: PrismError) -> None:
        request_id = self._request_id()
        problem = self.connection.door.problem(error)
        body = b'%b,"request_id":"%b"}' % (problem.opening, request_id.encode())
        self.connection.respond(error.status, PROBLEM_JSON, request_id, problem.lines, body)


class V2Exchange(PredictExchange):
    """A V2 inference request, whose problems and binary answers have forms of their own."""

    __slots__ = ()

    dialect = frames.DIALECT_V2_BINARY

    def begin(self) -> None:
        assert self.head.mark is not None
        self.body = self.head.mark + self.body
        super().begin()

    def answered(self, reply: Reply) -> None:
        self.body = b""
        lines = answer_header_lines(self, reply)
        try:
            if reply.form == frames.FORM_PROBLEM:
                self._tell(reply.status, lines, problem_document(reply.body, reply.status, ""))
                return
            body, kind, own = inference_answer(self, reply)
        except PrismError as error:
            self.failed(error)
            return
        lines += "".join(f"{name.lower()}: {value}\r\n" for name, value in own.items())
        self.connection.respond(reply.status, kind, self._request_id(), lines, body)

    def failed(self, error: PrismError) -> None:
        problem = self.connection.door.problem(error)
        self._tell(error.status, problem.lines, problem.document)

    def _tell(self, status: int, lines: str, problem: dict[str, Any]) -> None:
        document, kind = inference_error(problem)
        self.connection.respond(status, kind, self._request_id(), lines, msgspec.json.encode(document))
