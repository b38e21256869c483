"""Which predict requests the protocol door answers: the plain ones, told by their heads, each of which is read once.

Clients repeat the head of a request byte for byte. One that was read, found plain and allowed is remembered, and the
next that equals it needs no parsing.
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
from app.access.keys import extract_api_key
from app.access.throttle import network_of
from app.core.content_length import CONTENT_LENGTH_DIGITS
from app.dispatch.pipeline import Dispatcher
from app.dispatch.v2 import BINARY, INFER, JSON_LENGTH_HEADER, json_length_of, ref_of
from app.errors import NotFound, PrismError, RateLimited, Unauthorized
from model_container.contract import frames, stream_forms

PREDICT = re.compile(rb"/models/([A-Za-z0-9_.@+-]+)/predict(\?probabilities=(?:true|false))?")
PROBLEMS_MAX = 256
HEADS_MAX = 16_384
HEAD_BYTES_MAX = 1024
"""Bounds of what is remembered: 16 MiB if every head is as long as it may be; usual ones are 200 bytes."""

PLAIN_TYPES = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
NEUTRAL = frozenset(
    (b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"cache-control", b"pragma", b"dnt", b"priority")
)
"""Headers that mean nothing to a prediction, unless what is accepted is a stream."""

PER_REQUEST = frozenset(
    (
        *(b"traceparent", b"tracestate", b"baggage", b"x-request-start", b"x-amzn-trace-id", b"x-cloud-trace-context"),
        *(b"forwarded", b"via", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port"),
        *(b"x-forwarded-proto", b"x-forwarded-prefix", b"x-forwarded-server"),
    )
)
"""Headers of tracers and proxies, which mean nothing to a prediction either, and are hardly twice the same: a head that has
one is read, and not remembered. Nobody's word about an address is believed."""

PASSED_OVER = NEUTRAL | PER_REQUEST
STREAM_TYPES = tuple(map(str.encode, stream_forms.FORMS))


class CachedHead(Struct, frozen=True):
    """What the head of a plain predict request says. caller: "" where callers are known by their address.

    mark: what the runtime needs in front of the body of a V2 inference (frames.JSON_LENGTH); None for other requests.
    is_lasting: whether the next request may have the same head.
    """

    ref: str
    options: int
    length: int
    caller: str
    request_id: str = ""
    mark: bytes | None = None
    is_lasting: bool = True


class PredictTarget(Struct, frozen=True):
    """What is asked of which model. mark: as in Head."""

    ref: str
    options: int = 0
    mark: bytes | None = None


class Connection(Protocol):
    """A client's connection, as far as its door knows it. heads: those that it need not read."""

    address: str
    heads: dict[bytes, CachedHead]


class CachedProblem(Struct, frozen=True):
    """A refusal as the protocol door sends it.

    lines: of its header, each with its line end. document: the problem but for the request id; opening: the same as
    JSON, without its closing brace.
    """

    lines: str
    document: dict[str, Any]
    opening: bytes


class HeadCache:
    """What every connection of one surface shares.

    receive_timeout_seconds: for a request to arrive, plus a second for each KiB.
    """

    def __init__(
        self, dispatcher: Dispatcher, admission: Admission, max_body_bytes: int, receive_timeout_seconds: float
    ) -> None:
        self.dispatcher = dispatcher
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
        """Read every head anew: who is let in, or to what, is no longer what it was."""
        self.heads.clear()

    def heads_for(self, address: str) -> dict[bytes, CachedHead]:
        """The remembered heads; none where too many wrong keys came from, so that each key is looked at."""
        return {} if self._admission.wrong_keys.bounded(address) else self.heads

    def _forget_in(self, network: str) -> None:
        for connection in self.connections:
            if network_of(connection.address) == network:
                connection.heads = {}

    def new_request_id(self) -> str:
        """Unique, not secret; a random number for each would cost a system call."""
        return f"{self._id_prefix}{next(self._id_numbers) & 0xFFFFFFFF:08x}"

    def opening(self, status: int, kind: str, default_headers: list[tuple[bytes, bytes]]) -> str:
        """An answer's first lines, up to the request id. uvicorn makes its default headers (the date) anew each second."""
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
        """Render a refusal, or find it rendered: in a rush, thousands are the same."""
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
        """headers: names in lower case. None for what is not plain, and so for the other door to judge."""
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
        if not plain or self._admission.is_guess(key):  # the other door counts those
            return None
        try:
            caller = self._admission.admit(key, address, target.ref)
        except (Unauthorized, NotFound, RateLimited):
            return None
        is_lasting = not request_id and given.keys().isdisjoint(PER_REQUEST)
        counted_as = "" if caller == address else caller
        return CachedHead(target.ref, target.options, int(length), counted_as, request_id, target.mark, is_lasting)

    def remember(self, raw: bytes, head: CachedHead, lines: int) -> None:
        """raw: the head with its blank line. lines: how many the parser saw, which must be all there are."""
        plain_lines = raw.count(b"\r\n") == raw.count(b"\n") == lines + 1
        if not head.is_lasting or len(raw) > HEAD_BYTES_MAX or not plain_lines:
            return
        if len(self.heads) >= HEADS_MAX:
            self.heads.clear()
        self.heads[raw] = head


def read_target(url: bytes, given: dict[bytes, bytes], length: int) -> PredictTarget | None:
    """given: the headers by name, of which it takes those that belong to what is asked. None for what is not plain."""
    if path := PREDICT.fullmatch(url):
        return PredictTarget(path[1].decode(), frames.OPTION_PROBABILITIES if path[2] == b"?probabilities=true" else 0)
    path = INFER.fullmatch(url)
    if path is None or b"accept-encoding" in given:  # these answers go compressed to who takes that
        return None
    said = given.pop(JSON_LENGTH_HEADER.lower().encode(), None)
    json_length = length if said is None else json_length_of(said.decode("latin-1"), length)
    if json_length is None:
        return None
    if given.get(b"content-type", b"").lower() == BINARY.encode():
        del given[b"content-type"]
    return PredictTarget(ref_of(path[1].decode(), (path[2] or b"").decode()), 0, frames.JSON_LENGTH.pack(json_length))
