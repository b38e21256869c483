"""Decides by its head which predict request the fast path answers, and parses each distinct head once.

Clients repeat the head of a request byte for byte. A head that was parsed, found plain and admitted is cached, and the
next request with an equal head needs no parsing.
"""

from __future__ import annotations

import re
import secrets
from itertools import count
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.access.admission import REQUEST_ID, Admission
from app.access.hosts import is_direct
from app.access.keys import extract_api_key
from app.access.throttle import network_of
from app.core.content_length import CONTENT_LENGTH_DIGITS
from app.core.rollout.keys import HEADER, NOBODY, Identity
from app.dispatch.pipeline import Dispatcher
from app.dispatch.v2 import BINARY, INFER, JSON_LENGTH_HEADER, json_length_of, ref_of
from app.error_shapes import ErrorForms
from app.errors import NotFound, PrismError, RateLimited, Unauthorized
from model_container.contract import frames, stream_forms

PREDICT = re.compile(rb"/models/([A-Za-z0-9_.@+-]+)/predict(\?probabilities=(?:true|false))?")
PROBLEMS_MAX = 256
HEADS_MAX = 16_384
HEAD_BYTES_MAX = 1024
"""Bounds of the cache: 16 MiB if every head has the greatest length; usual heads have 200 bytes."""

PLAIN_TYPES = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
NEUTRAL = frozenset(
    (b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"cache-control", b"pragma", b"dnt", b"priority")
)
"""Headers that mean nothing to a prediction, unless `Accept` asks for a stream."""

PER_REQUEST = frozenset(
    (
        *(b"traceparent", b"tracestate", b"baggage", b"x-request-start", b"x-amzn-trace-id", b"x-cloud-trace-context"),
        *(b"forwarded", b"via", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port"),
        *(b"x-forwarded-proto", b"x-forwarded-prefix", b"x-forwarded-server"),
    )
)
"""Headers of tracers and proxies. They mean nothing to a prediction either, and are hardly ever repeated: a head that
has one is parsed and not cached. A forwarded address is never trusted.
"""

PASSED_OVER = NEUTRAL | PER_REQUEST
KEY_HEADER = HEADER.lower().encode()
STREAM_TYPES = tuple(map(str.encode, stream_forms.FORMS))


class CachedHead(Struct, frozen=True):
    """The content of a plain predict request's head.

    caller: "" where callers are identified by their address. is_direct: whether nothing shows a proxy or a tunnel
    between such a caller and this server.
    mark: what the runtime needs before the body of a V2 inference (frames.JSON_LENGTH); None for other requests.
    is_lasting: whether the next request may have the same head. identity: by which an experiment may tell callers apart.
    """

    ref: str
    options: int
    length: int
    caller: str
    request_id: str = ""
    mark: bytes | None = None
    is_lasting: bool = True
    is_direct: bool = False
    identity: Identity = NOBODY


class PredictTarget(Struct, frozen=True):
    """The model that a request addresses, and its options. mark: as in CachedHead."""

    ref: str
    options: int = 0
    mark: bytes | None = None


class Connection(Protocol):
    """A client's connection, as the head cache sees it. heads: the cached heads that it may use without parsing."""

    address: str
    heads: dict[bytes, CachedHead]


class CachedProblem(Struct, frozen=True):
    """A refusal as the fast path sends it.

    lines: its header lines, each with its line end. document: the problem without the request id. opening: the document
    as JSON, without its closing brace.
    """

    lines: str
    document: dict[str, Any]
    opening: bytes


class HeadCache:
    """The state that all connections of one surface share.

    error_forms: of errors on the surface's paths. receive_timeout_seconds: how long a request may take to arrive; a
    second more for each KiB.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        admission: Admission,
        error_forms: ErrorForms,
        max_body_bytes: int,
        receive_timeout_seconds: float,
    ) -> None:
        self.dispatcher = dispatcher
        self.error_forms = error_forms
        self.receive_timeout_seconds = receive_timeout_seconds
        self.heads: dict[bytes, CachedHead] = {}
        self._admission = admission
        self._max_body_bytes = max_body_bytes
        self._id_prefix = secrets.token_hex(4)
        self._id_numbers = count(secrets.randbits(24))
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._openings: dict[tuple[int, str], str] = {}
        self._problems: dict[tuple[str, ...], CachedProblem] = {}
        self.connections: set[Connection] = set()
        admission.keys.on_change(self.forget)
        admission.wrong_keys.on_bound(self._forget_in)

    def forget(self) -> None:
        """Drop all cached heads: who is admitted, or to what, has changed."""
        self.heads.clear()

    def heads_for(self, address: str) -> dict[bytes, CachedHead]:
        """Return the cached heads; {} where too many wrong keys came from, so that each key is checked."""
        return {} if self._admission.wrong_keys.bounded(address) else self.heads

    def _forget_in(self, network: str) -> None:
        for connection in self.connections:
            if network_of(connection.address) == network:
                connection.heads = {}

    def new_request_id(self) -> str:
        """Return a request id, unique but not secret. A random number for each request would cost a system call."""
        return f"{self._id_prefix}{next(self._id_numbers) & 0xFFFFFFFF:08x}"

    def opening(self, status: int, kind: str, default_headers: list[tuple[bytes, bytes]]) -> str:
        """Return an answer's first lines, up to the request id.

        uvicorn renews its default headers, which include the date, each second.
        """
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._openings.clear()
        opening = self._openings.get((status, kind))
        if opening is None:
            lines = b"".join(b"%b: %b\r\n" % line for line in default_headers)
            opening = (STATUS_LINE[status] + lines).decode("latin-1") + f"content-type: {kind}\r\nx-request-id: "
            self._openings[status, kind] = opening
        return opening

    def problem(self, error: PrismError) -> CachedProblem:
        """Render a refusal, or return it from the cache: under a rush of requests, thousands are the same."""
        error = self._admission.tell(error)
        key = (error.code, error.detail, *error.headers.values())
        known = self._problems.get(key)
        if known is None:
            if len(self._problems) >= PROBLEMS_MAX:
                self._problems.clear()
            lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items())
            document = error.problem()
            known = CachedProblem(lines, document, msgspec.json.encode(document)[:-1])
            self._problems[key] = known
        return known

    def read_head(self, url: bytes, headers: list[tuple[bytes, bytes]], address: str) -> CachedHead | None:
        """Parse a head, and return it if it is plain; None if the ASGI application is to judge the request.

        headers: names in lower case.
        """
        given = dict(headers)
        if len(given) != len(headers):
            return None
        length, host = given.pop(b"content-length", b""), given.pop(b"host", b"")
        if not length.isdigit() or len(length) > CONTENT_LENGTH_DIGITS or int(length) > self._max_body_bytes:
            return None
        target = read_target(url, given, int(length))
        if target is None or not self._admission.has_host(host.decode("latin-1")):
            return None
        request_id = given.pop(b"x-request-id", b"").decode("latin-1")
        caller_key = given.pop(KEY_HEADER, b"").decode("latin-1")
        x_api_key, authorization = given.pop(b"x-api-key", None), given.pop(b"authorization", b"")
        key = extract_api_key(
            None if x_api_key is None else x_api_key.decode("latin-1"), authorization.decode("latin-1")
        )
        plain = (
            given.pop(b"content-type", PLAIN_TYPES[0]).lower() in PLAIN_TYPES
            and given.pop(b"connection", b"keep-alive").lower() == b"keep-alive"
            and (not request_id or REQUEST_ID.fullmatch(request_id) is not None)
            and given.keys() <= PASSED_OVER
            and not any(kind in given.get(b"accept", b"").lower() for kind in STREAM_TYPES)
        )
        if not plain or self._admission.is_guess(key):  # the ASGI application counts wrong keys
            return None
        try:
            caller = self._admission.admit(key, address, target.ref)
        except (Unauthorized, NotFound, RateLimited):
            return None
        counted_as = "" if caller == address else caller
        return CachedHead(
            target.ref,
            target.options,
            int(length),
            counted_as,
            request_id,
            target.mark,
            is_lasting=not (request_id or caller_key) and given.keys().isdisjoint(PER_REQUEST),
            is_direct=not counted_as and is_direct(host.decode("latin-1"), (name.decode("latin-1") for name in given)),
            identity=Identity(caller_key, api_key=key) if caller_key or key else NOBODY,
        )

    def direct_caller(self, address: str) -> str:
        """Return the name under which callers without a key at this address are counted whose heads are direct."""
        return self._admission.without_key(address, is_direct=True)

    def remember(self, raw: bytes, head: CachedHead, lines: int) -> None:
        """Cache a head. raw: the head with its blank line. lines: how many the parser saw; there must be no others."""
        plain_lines = raw.count(b"\r\n") == raw.count(b"\n") == lines + 1
        if not head.is_lasting or len(raw) > HEAD_BYTES_MAX or not plain_lines:
            return
        if len(self.heads) >= HEADS_MAX:
            self.heads.clear()
        self.heads[raw] = head


def read_target(url: bytes, given: dict[bytes, bytes], length: int) -> PredictTarget | None:
    """Return the model that a plain request addresses; None if it is not plain.

    given: the headers by name; those that belong to the target are removed from it.
    """
    if path := PREDICT.fullmatch(url):
        return PredictTarget(path[1].decode(), frames.OPTION_PROBABILITIES if path[2] == b"?probabilities=true" else 0)
    path = INFER.fullmatch(url)
    if path is None or b"accept-encoding" in given:  # these answers may be compressed
        return None
    value = given.pop(JSON_LENGTH_HEADER.lower().encode(), None)
    json_length = length if value is None else json_length_of(value.decode("latin-1"), length)
    if json_length is None:
        return None
    if given.get(b"content-type", b"").lower() == BINARY.encode():
        del given[b"content-type"]
    return PredictTarget(ref_of(path[1].decode(), (path[2] or b"").decode()), 0, frames.JSON_LENGTH.pack(json_length))
