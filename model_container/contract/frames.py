"""Wire protocol between gateway and runtime: length-prefixed frames over one persistent connection.

    header    <I I B B H>   payload length, frame id, kind, reserved, count      12 bytes
    payload   depends on the kind

A batch is a PREDICT frame of `count` opaque request bodies. It is answered by one ANSWERS frame with the same id and
one status and body per request, in the order of the requests. Everything is little-endian.

    kind     from      payload
    HELLO    gateway   JSON {"protocol": 1, "token": "…", "max_answer_bytes": …}; first frame of every connection
    WELCOME  runtime   JSON, see runtime.py; sent once the model is loaded. A wrong token closes the connection
    PREDICT  gateway   count × <I B B H> (body length, dialect, options, 0), then the bodies
    ANSWERS  runtime   <I I> (µs decoding and encoding, µs inside the model),
                       count × <I H H> (body length, HTTP status, form), then the bodies
    PING     gateway   empty
    PONG     runtime   JSON {"busy_ms": 0, "served": 12, "rss_bytes": …}; answered even while the model computes
    CONVERT  gateway   empty; answered by an ANSWERS frame of two bodies, a report as JSON and an ONNX file
    STREAM   gateway   as PREDICT, with one request; answered by PART frames as items are produced, then by an ANSWERS
                       frame of one: status 200 and {"items": 3}, or a problem. The connection carries nothing else
                       meanwhile, and closing it ends the stream
    PART     runtime   one item of a stream as JSON

A replica is not trusted: the gateway accepts only frames that it asked for, and none above its size limit.

This file imports only the standard library, because the gateway and every model's environment share it.
"""

from __future__ import annotations

import re
import struct
from typing import Callable, List, NamedTuple, Protocol, Sequence

PROTOCOL = 1

HELLO, WELCOME, PREDICT, ANSWERS, PING, PONG, CONVERT, PART, STREAM = 1, 2, 3, 4, 5, 6, 7, 8, 9

DIALECT_JSON = 0  # any native form; see bodies/json_dialects.py
DIALECT_V2_BINARY = 1  # a V2 request with its tensors in or after the JSON: <I JSON's length>, JSON, tensor bytes
DIALECT_V1 = 2  # KServe V1: {"instances": …} or {"inputs": …}
DIALECT_MLFLOW = 3  # one of MLflow's four JSON forms
DIALECT_CSV = 4  # a table: a line of names, then the rows
DIALECT_GENERATE = 5  # Triton's generate extension: one object with inputs and parameters by name
DIALECT_FILE = 6  # one image or WAV file
DIALECT_FORM = 7  # multipart/form-data: each file is a row
DIALECT_PARQUET = 8  # a table as a Parquet file

TABLES = (DIALECT_CSV, DIALECT_PARQUET)

OPTION_PROBABILITIES = 1
OPTION_CSV = 2  # a table is answered by its own rows as CSV with the results beside them
OPTION_STRICT = 4  # columns that the model does not have are an error
OPTION_ERRORS = 8  # with OPTION_CSV: the column of errors is there even if no row has one

FORM_NATIVE = 0  # {"predictions": …}: the gateway prepends model, version and model_id
FORM_V2 = 1  # {"outputs": …}: the gateway prepends model_name and model_version
FORM_PROBLEM = 2  # {"code", "detail", "hint"?, …}: the gateway completes the problem document
FORM_V2_BINARY = 3  # <I JSON's length>, JSON as in FORM_V2, then the bytes of the outputs requested in binary
FORM_GENERATE = 4  # an object of outputs by name: the gateway prepends model_name and model_version
FORM_CSV = 5  # the rows of a CSV body with the results beside them; only where OPTION_CSV asks for it
FORM_BESIDE_IGNORED = 6  # <I H> (length, FORM_NATIVE or FORM_CSV), the ignored columns as a list in JSON, the answer

JSON_LENGTH = struct.Struct("<I")
"""Prefix of a V2 request or answer that may have binary tensors: the length of its JSON.

In a request, the length 0 means that the rest is the bytes of the model's only input.
"""

HEADER = struct.Struct("<IIBBH")
_REQUEST = struct.Struct("<IBBH")
_ANSWER = struct.Struct("<IHH")
_ANSWER_OF_A_KIND = struct.Struct("<II")  # like _ANSWER, with status and form as one number
_PLAIN = 200  # that number for status 200 and FORM_NATIVE
_TIMES = struct.Struct("<II")
_BESIDE = struct.Struct("<IH")

MAX_PAYLOAD_BYTES = 1 << 30
PROBLEM_BYTES_MAX = 1 << 16
"""Largest body of an answer in FORM_PROBLEM."""

IGNORED_BYTES_MAX = 1000
"""Largest list of ignored columns in FORM_BESIDE_IGNORED, without its brackets; it becomes a header."""

ANSWERS_BYTES_MAX = 1 << 28
"""Largest total size of the bodies in one ANSWERS frame, unless a single answer may be larger."""

Limit = Callable[[int, int], int]
"""Function (frame id, kind) → largest payload of such a frame now. Raises FrameError for a frame that must not come."""


class FrameError(ValueError):
    """Error for data that is no valid frame. The connection cannot be used any more."""


class Frame(NamedTuple):
    id: int
    kind: int
    items: int
    payload: bytes


class Request(NamedTuple):
    body: bytes
    dialect: int = DIALECT_JSON
    options: int = 0


class Asked(Protocol):
    """Interface of a request to send, whatever else its sender stores in it."""

    @property
    def body(self) -> bytes: ...

    @property
    def dialect(self) -> int: ...

    @property
    def options(self) -> int: ...


class Answer(NamedTuple):
    body: bytes
    status: int = 200
    form: int = FORM_NATIVE


def encode(frame_id: int, kind: int, payload: bytes = b"", count: int = 0) -> bytes:
    return HEADER.pack(len(payload), frame_id, kind, 0, count) + payload


def encode_requests(frame_id: int, requests: Sequence[Asked], kind: int = PREDICT) -> bytes:
    heads = b"".join([_REQUEST.pack(len(request.body), request.dialect, request.options, 0) for request in requests])
    payload = heads + b"".join([request.body for request in requests])
    return encode(frame_id, kind, payload, len(requests))


def decode_requests(frame: Frame) -> list[Request]:
    """Decode a PREDICT or STREAM frame. Raises FrameError if the bodies do not fill the payload exactly."""
    payload = frame.payload
    position = frame.items * _REQUEST.size
    requests = []
    try:
        for length, dialect, options, _ in _REQUEST.iter_unpack(payload[:position]):
            end = position + length
            requests.append(Request(payload[position:end], dialect, options))
            position = end
    except struct.error as error:
        raise FrameError("a PREDICT frame is shorter than its count says") from error
    if position != len(payload) or len(requests) != frame.items:
        raise FrameError("a PREDICT frame's bodies do not fill its payload")
    return requests


def encode_answers(frame_id: int, answers: Sequence[Answer], codec_us: int, model_us: int) -> bytes:
    heads = b"".join([_ANSWER.pack(len(body), status, form) for body, status, form in answers])
    times = _TIMES.pack(min(codec_us, 0xFFFFFFFF), min(model_us, 0xFFFFFFFF))
    payload = b"".join((times, heads, *[answer.body for answer in answers]))
    return encode(frame_id, ANSWERS, payload, len(answers))


def answers_bytes_max(count: int, answer_bytes_max: int) -> int:
    """Return the largest payload of an ANSWERS frame with `count` answers."""
    heads = _TIMES.size + count * _ANSWER.size
    return heads + min(count * answer_bytes_max, max(answer_bytes_max, ANSWERS_BYTES_MAX), MAX_PAYLOAD_BYTES - heads)


NO_ANSWER = b"", 502, FORM_PROBLEM
"""Replacement for an answer of an unknown form, or whose status does not match its form: a problem without a body."""


def _checked(body: bytes, status: int, form: int) -> tuple[bytes, int, int]:
    fits = 400 <= status < 600 if form == FORM_PROBLEM else status == 200 and form <= FORM_BESIDE_IGNORED
    return (body, status, form) if fits else NO_ANSWER


def decode_answers(frame: Frame) -> tuple[list[tuple[bytes, int, int]], int, int]:
    """Return (body, status, form) in request order, µs spent decoding and encoding, and µs spent in the model.

    An invalid answer becomes NO_ANSWER. Raises FrameError on a truncated payload.
    """
    payload = frame.payload
    position = _TIMES.size + frame.items * _ANSWER.size
    answers = []
    try:
        codec_us, model_us = _TIMES.unpack_from(payload)
        for length, kind in _ANSWER_OF_A_KIND.iter_unpack(payload[_TIMES.size : position]):
            end = position + length
            if kind == _PLAIN:  # the usual case
                answers.append((payload[position:end], _PLAIN, FORM_NATIVE))
            else:
                answers.append(_checked(payload[position:end], kind & 0xFFFF, kind >> 16))
            position = end
    except struct.error as error:
        raise FrameError("an ANSWERS frame is shorter than its count says") from error
    if position != len(payload) or len(answers) != frame.items:
        raise FrameError("an ANSWERS frame's bodies do not fill its payload")
    return answers, codec_us, model_us


IGNORED_COLUMNS = "x-ignored-columns"
"""Header with the columns of a request that the model does not have."""

IGNORED = re.compile(rb"\[[ -~]{0,%d}\]" % IGNORED_BYTES_MAX)


def beside(form: int, ignored: bytes, body: bytes) -> bytes:
    """Return the body of an answer of FORM_BESIDE_IGNORED. form: of the answer. ignored: as IGNORED."""
    return b"".join((_BESIDE.pack(len(ignored), form), ignored, body))


def without_ignored(body: bytes) -> tuple[bytes, int, str]:
    """Return the answer in an answer of FORM_BESIDE_IGNORED, its form, and the ignored columns in printable ASCII.

    Raises FrameError if it is none.
    """
    start = _BESIDE.size
    length, form = _BESIDE.unpack_from(body) if len(body) >= start else (0, FORM_PROBLEM)
    end = start + length
    if form not in (FORM_NATIVE, FORM_CSV) or not IGNORED.fullmatch(body[start:end]):
        raise FrameError("an answer does not list the columns that it ignored")
    return body[end:], form, body[start:end].decode("ascii")


def any_payload(frame_id: int, kind: int) -> int:
    """Return the limit for a trusted peer."""
    return MAX_PAYLOAD_BYTES


class FrameReader:
    """Splitter of a byte stream into frames; an incomplete frame is kept until the rest arrives.

    limit: called as soon as a header has arrived, so that nothing of an oversized payload is kept. A frame that arrives
    whole and alone is not checked here; its receiver checks it.
    """

    def __init__(self, limit: Limit = any_payload) -> None:
        self.buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes, most: int = MAX_PAYLOAD_BYTES) -> List[Frame]:
        """Return the first `most` frames that are complete. The others come with the next call, which may pass b"".

        Raises FrameError for a frame over its limit.
        """
        if not self.buffer and len(data) >= HEADER.size:  # usually exactly one frame, which needs no copy into a buffer
            length, frame_id, kind, _, count = HEADER.unpack_from(data)
            if len(data) == HEADER.size + length:
                return [Frame(frame_id, kind, count, data[HEADER.size :])]
        self.buffer += data
        return self._cut(most)

    def _cut(self, most: int) -> List[Frame]:
        frames: List[Frame] = []
        buffer, start = self.buffer, 0
        while len(buffer) - start >= HEADER.size and len(frames) < most:
            length, frame_id, kind, _, count = HEADER.unpack_from(buffer, start)
            if length > self._limit(frame_id, kind):
                raise FrameError(f"a frame of kind {kind} has {length} bytes, which is over its limit")
            body, end = start + HEADER.size, start + HEADER.size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:  # a slice of the buffer would be copied twice
                frames.append(Frame(frame_id, kind, count, bytes(view[body:end])))
            start = end
        if start:
            del buffer[:start]
        return frames
