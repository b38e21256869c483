"""Paths of an image without a gateway, in the protocols that existing clients use.

GET  /, /health                                      description: libraries, signature, samples; whether it predicts
POST /predict                                        a native dialect, an image, or a form of images;
                                                     ?probabilities=true adds them
                                                     with Accept: text/event-stream or application/x-ndjson a stream,
                                                     as on /invocations
GET  /ping, /version;  POST /invocations             MLflow and SageMaker; also text/csv
GET  /v1/models[/NAME];  POST /v1/models/NAME:predict               KServe V1
GET  /v2, /v2/health/(live|ready), /v2/models/NAME[/ready]          Open Inference Protocol V2
POST /v2/models/NAME/infer                                          the same, with binary tensors
POST /v2/models/NAME/(generate|generate_stream)                     Triton's generate extension

Vertex chooses its own paths for /health and /v1/…:predict. Any NAME is accepted, because the image has one model and
does not know its name. The same holds for VERSION in V2's /v2/models/NAME/versions/VERSION/….
"""

from __future__ import annotations

import re
import zlib
from email.message import Message
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple
from urllib.parse import parse_qs, unquote

from model_container.bodies.problems import Problem
from model_container.bodies.values import ANY, DATETIME
from model_container.contract.content_types import dialect_of
from model_container.contract.frames import (
    DIALECT_CSV,
    DIALECT_GENERATE,
    DIALECT_MLFLOW,
    DIALECT_V1,
    DIALECT_V2_BINARY,
    FORM_V2_BINARY,
    JSON_LENGTH,
    OPTION_PROBABILITIES,
    OPTION_STRICT,
    Answer,
    Request,
)
from model_container.contract.stream_forms import HEADERS, StreamForm, form_asked_for, generated_form
from model_container.server.http_answers import JSON, HttpResponse, to_json, told_problem, whole_answer
from model_container.server.http_streams import checked, parts_of
from model_container.server.stream import Items

BINARY = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
VERSION = "1"

_V2_MODEL = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"


class Runtime(Protocol):
    """Part of the server that the routes use. aliases: further paths, each with the path whose response it has."""

    welcome: Dict[str, Any]
    aliases: Mapping[str, str]

    def predict(self, requests: Sequence[Request]) -> Tuple[Sequence[Answer], int, int]: ...

    def stream(self, request: Request) -> Items: ...


class HttpRequest(NamedTuple):
    """HTTP request. path: as sent, percent-encoded."""

    method: str
    path: str
    query: str
    headers: Message
    body: bytes


Route = Callable[["Routes", HttpRequest, Dict[str, str]], HttpResponse]


class Routes:
    """HTTP routes of one runtime. max_body_bytes: largest size of a decompressed body."""

    def __init__(self, runtime: Runtime, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._max_body_bytes = max_body_bytes

    def answer(self, http_request: HttpRequest) -> HttpResponse:
        """Answer a request. Raises Problem."""
        route, names = find_route(http_request)
        return route(self, http_request, names)

    def _welcome(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        return HttpResponse(to_json(self._runtime.welcome))

    def _health(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        self._check()
        return HttpResponse(to_json({"status": "ok"}))

    def _ping(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        self._check()
        return HttpResponse(b"\n", content_type=TEXT)

    def _version(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        return HttpResponse(VERSION.encode(), content_type=TEXT)

    def _v1_models(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        return HttpResponse(to_json({"models": ["model"]}))

    def _v1_model(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        self._check()
        return HttpResponse(to_json({"name": names["name"], "ready": True}))

    def _v2_server(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        return HttpResponse(
            to_json({"name": "PRISM", "version": VERSION, "extensions": ["binary_tensor_data", "parameters"]})
        )

    def _v2_live(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        return HttpResponse(to_json({"live": True}))

    def _v2_ready(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        self._check()
        return HttpResponse(to_json({"ready": True, **({"name": names["name"]} if names else {})}))

    def _v2_model(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        welcome = self._runtime.welcome
        document = {"name": names["name"], "versions": [VERSION], "platform": f"python_{welcome['adapter']}"}
        tensors = {key: [_tensor(port) for port in welcome["signature"][key]] for key in ("inputs", "outputs")}
        return HttpResponse(to_json({**document, **tensors}))

    def _predict(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        query = parse_qs(http_request.query)
        options = OPTION_PROBABILITIES * _is_on(query, "probabilities") | OPTION_STRICT * _is_on(query, "strict")
        dialect = dialect_of(http_request.headers.get("Content-Type", ""))
        return self._answer(http_request, Request(self._body(http_request), dialect, options))

    def _v1_predict(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        return whole_answer(self._ask(Request(self._body(http_request), DIALECT_V1)))

    def _invocations(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        kind = http_request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in ("", JSON, "text/csv"):
            raise Problem(415, "unsupported_format", f"An invocation takes {JSON} or text/csv, not {kind[:100]!r}.")
        dialect = DIALECT_CSV if kind == "text/csv" else DIALECT_MLFLOW
        return self._answer(http_request, Request(self._body(http_request), dialect))

    def _generate(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        answer = self._ask(Request(self._body(http_request), DIALECT_GENERATE))
        return HttpResponse(_v2_names(names) + answer.body[1:])

    def _generate_stream(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        return self._stream(
            http_request, Request(self._body(http_request), DIALECT_GENERATE), generated_form(_v2_names(names))
        )

    def _v2_infer(self, http_request: HttpRequest, names: Dict[str, str]) -> HttpResponse:
        body = self._body(http_request)
        marked = JSON_LENGTH.pack(_json_length(http_request.headers, len(body))) + body
        answer = self._ask(Request(marked, DIALECT_V2_BINARY))
        prefix = _v2_names(names)
        if answer.form != FORM_V2_BINARY:
            return HttpResponse(prefix + answer.body[1:])
        start = JSON_LENGTH.size
        end = start + JSON_LENGTH.unpack_from(answer.body)[0]
        head = prefix + answer.body[start + 1 : end]
        return HttpResponse(head + answer.body[end:], 200, BINARY, {JSON_LENGTH_HEADER: str(len(head))})

    def _answer(self, http_request: HttpRequest, request: Request) -> HttpResponse:
        """Answer at once, or as a stream if the Accept header asks for one."""
        form = form_asked_for(http_request.headers.get("Accept", ""))
        return whole_answer(self._ask(request)) if form is None else self._stream(http_request, request, form)

    def _stream(self, http_request: HttpRequest, request: Request, form: StreamForm) -> HttpResponse:
        parts = parts_of(
            self._runtime.stream(request), form, lambda problem: told_problem(http_request.path, problem).body
        )
        return HttpResponse(b"", 200, form.media_type, HEADERS, parts)

    def _ask(self, request: Request) -> Answer:
        """Predict. Raises Problem if the answer is one."""
        return checked(self._runtime.predict([request])[0][0])

    def _check(self) -> None:
        """Raise Problem 503 unless the model answers at least one of its samples."""
        refusal: Optional[Problem] = None
        for sample in self._runtime.welcome["samples"]:
            try:
                self._ask(Request(to_json(sample)))
                return
            except Problem as problem:
                refusal = refusal or problem
        reason = refusal.detail if refusal else "there is no sample"
        raise Problem(503, "unhealthy", f"The model does not answer its sample: {reason}")

    def _body(self, http_request: HttpRequest) -> bytes:
        """Return the request body, decompressed if necessary."""
        encoding = http_request.headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return http_request.body
        if encoding not in ("gzip", "deflate"):
            raise Problem(
                415, "unsupported_format", f"A body must be uncompressed, gzip or deflate, not {encoding[:40]!r}."
            )
        stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects gzip or zlib by the header
        try:
            body = stream.decompress(http_request.body, self._max_body_bytes + 1)
        except zlib.error:
            raise Problem(400, "bad_input", "The body does not match its Content-Encoding.") from None
        if len(body) > self._max_body_bytes:
            raise Problem(413, "too_large", f"The body is over the limit of {self._max_body_bytes} bytes.")
        if not stream.eof or stream.unused_data:
            raise Problem(400, "bad_input", "The compressed body is incomplete or has data after its end.")
        return body


_ROUTES: List[Tuple[str, Any, Route]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("GET", "/", Routes._welcome),
        ("GET", "/health", Routes._health),
        ("GET", "/ping", Routes._ping),
        ("GET", "/version", Routes._version),
        ("GET", "/v1/models", Routes._v1_models),
        ("GET", "/v1/models/(?P<name>[^/:]+)", Routes._v1_model),
        ("GET", "/v2/?", Routes._v2_server),
        ("GET", "/v2/health/live", Routes._v2_live),
        ("GET", "/v2/health/ready", Routes._v2_ready),
        ("GET", _V2_MODEL, Routes._v2_model),
        ("GET", f"{_V2_MODEL}/ready", Routes._v2_ready),
        ("POST", "/predict", Routes._predict),
        ("POST", "/invocations", Routes._invocations),
        ("POST", "/v1/models/(?P<name>[^/]+):predict", Routes._v1_predict),
        ("POST", f"{_V2_MODEL}/infer", Routes._v2_infer),
        ("POST", f"{_V2_MODEL}/generate", Routes._generate),
        ("POST", f"{_V2_MODEL}/generate_stream", Routes._generate_stream),
    )
]


def find_route(http_request: HttpRequest) -> Tuple[Route, Dict[str, str]]:
    """Return the route and the names in its path. Raises Problem 404 or 405."""
    taken = ""
    for method, pattern, route in _ROUTES:
        match = pattern.fullmatch(http_request.path)
        if match is None:
            continue
        if http_request.method == method or (http_request.method == "HEAD" and method == "GET"):
            return route, {name: unquote(value or "") for name, value in match.groupdict().items()}
        taken = method
    if taken:
        raise Problem(405, "method_not_allowed", f"{http_request.path[:200]} takes {taken}, not {http_request.method}.")
    raise Problem(
        404,
        "not_found",
        f"There is no {http_request.path[:200]}.",
        "Available are /predict, /invocations, /v1 and /v2.",
    )


def _is_on(query: Mapping[str, List[str]], name: str) -> bool:
    return query.get(name, ["false"])[-1].lower() in ("1", "true", "yes")


def _v2_names(names: Mapping[str, str]) -> bytes:
    """Return the start of the response's JSON object, which holds the model's name and version."""
    return to_json({"model_name": names["name"], "model_version": names["version"] or VERSION})[:-1] + b","


def _tensor(described: Mapping[str, Any]) -> Dict[str, Any]:
    """Describe a tensor for V2.

    A datatype that the artifact does not declare becomes FP64, which most models accept. Dates are texts.
    """
    datatype = {ANY: "FP64", DATETIME: "BYTES"}.get(described["datatype"], described["datatype"])
    return {"name": described["name"], "datatype": datatype, "shape": list(described["shape"])}


def _json_length(headers: Message, body_bytes: int) -> int:
    length = headers.get(JSON_LENGTH_HEADER)
    if length is None:
        return body_bytes
    if not (length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= body_bytes):
        raise Problem(400, "bad_input", f"{JSON_LENGTH_HEADER} is {length[:40]!r}, the body has {body_bytes} bytes.")
    return int(length)
