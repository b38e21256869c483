"""The wire between gateway and runtime: length-prefixed frames over one persistent connection.

    header    <I I B B H>   payload length, frame id, kind, reserved, count      12 bytes
    payload   as the kind says

A batch is a PREDICT frame of `count` opaque request bodies, answered by one ANSWERS frame with the same
id and one status + body per request, in the order of the requests. Everything is little-endian.

    kind     from      payload
    HELLO    gateway   JSON {"protocol": 1, "token": "…", "max_answer_bytes": …}; first frame of every connection
    WELCOME  runtime   JSON, see runtime.py; sent once the model is loaded. A wrong token closes the connection
    PREDICT  gateway   count × <I B B H> (body length, dialect, options, 0), then the bodies
    ANSWERS  runtime   <I I> (µs decoding and encoding, µs inside the model),
                       count × <I H H> (body length, HTTP status, form), then the bodies
    PING     gateway   empty
    PONG     runtime   JSON {"busy_ms": 0, "served": 12, "rss_bytes": …}; answered even while the model computes
    CONVERT  gateway   empty; answered by an ANSWERS frame of two bodies, a report as JSON and an ONNX file
    STREAM   gateway   as PREDICT, of one request; answered by PART frames as items are made, then by an ANSWERS frame
                       of one: status 200 and {"items": 3}, or a problem. Nothing else is asked on that connection,
                       and who closes it ends the stream
    PART     runtime   one item of a stream as JSON

A replica is not trusted: the gateway takes no frame that it did not ask for, and none larger than it may be.

Imports only the standard library: the gateway and every model's environment share this file.
"""

from __future__ import annotations

import struct
from typing import Callable, List, NamedTuple, Protocol, Sequence

PROTOCOL = 1

HELLO, WELCOME, PREDICT, ANSWERS, PING, PONG, CONVERT, PART, STREAM = 1, 2, 3, 4, 5, 6, 7, 8, 9

DIALECT_JSON = 0  # whichever native form the body has; see bodies/json_dialects.py
DIALECT_V2_BINARY = 1  # a V2 request, its tensors in JSON or behind it: <I JSON's length>, the JSON, the tensors' bytes
DIALECT_V1 = 2  # KServe V1: {"instances": …} or {"inputs": …}
DIALECT_MLFLOW = 3  # one of MLflow's four JSON forms
DIALECT_CSV = 4  # a table as MLflow takes it: a line of names, then the rows
DIALECT_GENERATE = 5  # Triton's generate extension: one object of inputs by name, and parameters beside them

OPTION_PROBABILITIES = 1

FORM_NATIVE = 0  # {"predictions": …}: the gateway puts model, version and model_id in front
FORM_V2 = 1  # {"outputs": …}: the gateway puts model_name and model_version in front
FORM_PROBLEM = 2  # {"code", "detail", "hint"?, …}: the gateway completes the problem document
FORM_V2_BINARY = 3  # <I JSON's length>, JSON as in FORM_V2, then the bytes of the outputs asked for in binary
FORM_GENERATE = 4  # an object of outputs by name: the gateway puts model_name and model_version in front

JSON_LENGTH = struct.Struct("<I")
"""In front of a V2 request or answer that may have binary tensors. A request whose JSON has the length 0 is nothing
but the bytes of the model's only input."""

HEADER = struct.Struct("<IIBBH")
_REQUEST = struct.Struct("<IBBH")
_ANSWER = struct.Struct("<IHH")
_ANSWER_OF_A_KIND = struct.Struct("<II")  # as _ANSWER, status and form in one
_PLAIN = 200  # such a kind: status 200, FORM_NATIVE
_TIMES = struct.Struct("<II")

MAX_PAYLOAD_BYTES = 1 << 30
PROBLEM_BYTES_MAX = 1 << 16
"""Of the body of an answer in FORM_PROBLEM."""

ANSWERS_BYTES_MAX = 1 << 28
"""Of the bodies of one ANSWERS frame together, unless a single answer may have more."""

Limit = Callable[[int, int], int]
"""(frame id, kind) → the largest payload of such a frame now. Raises FrameError for one that must not come."""


class FrameError(ValueError):
    """The peer sent what is not a frame; the connection cannot be used any more."""


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
    """What is sent of a request, whatever else its sender keeps beside it."""

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
    heads = b"".join([_REQUEST.pack(len(one.body), one.dialect, one.options, 0) for one in requests])
    payload = heads + b"".join([one.body for one in requests])
    return encode(frame_id, kind, payload, len(requests))


def decode_requests(frame: Frame) -> list[Request]:
    """Of a PREDICT or STREAM frame. Raises FrameError if the bodies do not fill the payload exactly."""
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
    payload = b"".join((times, heads, *[one.body for one in answers]))
    return encode(frame_id, ANSWERS, payload, len(answers))


def answers_bytes_max(count: int, answer_bytes_max: int) -> int:
    """The largest payload of an ANSWERS frame of so many answers."""
    heads = _TIMES.size + count * _ANSWER.size
    return heads + min(count * answer_bytes_max, max(answer_bytes_max, ANSWERS_BYTES_MAX), MAX_PAYLOAD_BYTES - heads)


NO_ANSWER = b"", 502, FORM_PROBLEM
"""In place of an answer of an unknown form, or with a status that does not go with it: a problem that says nothing."""


def _checked(body: bytes, status: int, form: int) -> tuple[bytes, int, int]:
    fits = 400 <= status < 600 if form == FORM_PROBLEM else status == 200 and form <= FORM_GENERATE
    return (body, status, form) if fits else NO_ANSWER


def decode_answers(frame: Frame) -> tuple[list[tuple[bytes, int, int]], int, int]:
    """(body, status, form) in request order, µs of coding, µs in the model.

    What cannot be an answer is NO_ANSWER. Raises FrameError on a torn payload.
    """
    payload = frame.payload
    position = _TIMES.size + frame.items * _ANSWER.size
    answers = []
    try:
        codec_us, model_us = _TIMES.unpack_from(payload)
        for length, kind in _ANSWER_OF_A_KIND.iter_unpack(payload[_TIMES.size : position]):
            end = position + length
            if kind == _PLAIN:  # nearly always
                answers.append((payload[position:end], _PLAIN, FORM_NATIVE))
            else:
                answers.append(_checked(payload[position:end], kind & 0xFFFF, kind >> 16))
            position = end
    except struct.error as error:
        raise FrameError("an ANSWERS frame is shorter than its count says") from error
    if position != len(payload) or len(answers) != frame.items:
        raise FrameError("an ANSWERS frame's bodies do not fill its payload")
    return answers, codec_us, model_us


def any_payload(frame_id: int, kind: int) -> int:
    """The limit where the peer is trusted."""
    return MAX_PAYLOAD_BYTES


class FrameReader:
    """Cuts a byte stream into frames; keeps what is incomplete until the rest arrives.

    limit: asked as soon as a header is there, so that nothing is kept of a payload that is too large. A frame that
    came whole and alone is not asked about: whoever takes it judges it.
    """

    def __init__(self, limit: Limit = any_payload) -> None:
        self.buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes, most: int = MAX_PAYLOAD_BYTES) -> List[Frame]:
        """The first `most` frames that are whole now. Those left come with the next call, which may bring b"".

        Raises FrameError for a frame over its limit.
        """
        if (
            not self.buffer and len(data) >= HEADER.size
        ):  # nearly always exactly one frame, which needs no copy into a buffer
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
