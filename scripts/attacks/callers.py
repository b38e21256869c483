"""Hostile requests, raw on the wire, by somebody who has an API key and wants more than predictions."""

from __future__ import annotations

import random
import re
import socket
from collections import Counter
from collections.abc import Iterator

from scripts.attacks.outcome import Outcome
from scripts.attacks.server import API_KEY, SECRETS, Attacked

SEED = 9
WAIT_SECONDS = 20.0

PATHS = (
    *("/", "/health", "/models", "/models/iris", "/models/iris/predict", "/models/iris/logs", "/models/iris/stop"),
    *("/models/upload-and-run", "/models/inspect", "/models/iris/restart", "/registry", "/keys", "/share", "/metrics"),
    *("/settings", "/upload-model", "/login", "/docs", "/openapi.json", "/static/page.css", "/v1/models/iris:predict"),
    *("/v2", "/v2/models/iris/infer", "/v2/models/iris", "/v2/repository/index", "/v2/repository/models/iris/unload"),
    *("/v2/models/iris/generate", "/invocations", "/predict/iris", "/models/iris/invocations", "/none"),
)
MUTATIONS = (
    "{}",
    "{}/",
    "/{}",
    "{}/..",
    "{}/%2e%2e/keys",
    "{}%00",
    "{}?x=1",
    "/./{}",
    "/static/..{}",
    "{};a",
    "http://evil.example{}",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
HOSTS = (
    "localhost",
    "127.0.0.1",
    "evil.example",
    "",
    "localhost:1",
    "a b",
    "user@localhost",
    "[::1]",
    "127.0.0.1.evil.example",
)
HEADERS = (
    "Origin: http://evil.example",
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: localhost",
    "X-Original-URL: /keys",
    "X-HTTP-Method-Override: DELETE",
    "Cookie: prism_session=x",
    "Expect: 100-continue",
    "Expect: a-miracle",
    "Accept: text/html",
    "Accept-Encoding: gzip, br;q=0, *",
    "Content-Encoding: gzip",
    "Transfer-Encoding: chunked",
    "Inference-Header-Content-Length: 99999999",
    "Upgrade: websocket",
    "Connection: close, x-api-key",
    "X-Request-ID: a\tb",
    "Range: bytes=0-",
    "Content-Length: 5",
)
BODIES = (
    b"",
    b"{}",
    b'{"input": [5.1, 3.5, 1.4, 0.2]}',
    b'{"inputs": [{"name": "x", "shape": [1, 99999999999], "datatype": "FP64", "data": [1]}]}',
    b'{"inputs": [{"name": "x", "shape": [-1], "datatype": "BYTES", "data": [null]}]}',
    b'{"instances": [' + b"[" * 5000 + b"]" * 5000 + b"]}",
    b'{"input": 1e999999}',
    b'{"input": [' + b"1," * 20_000 + b"1]}",
    b'{"a\\ud800": 1}',
    b'{"dataframe_split": {"columns": [1], "data": [[null]]}}',
    b"\xff\xfe\x00",
    b"a,b\n1\n",
)


def run(server: Attacked, count: int) -> Outcome:
    """Send them one by one, each on a connection of its own."""
    statuses: Counter[str] = Counter()
    breaches = []
    for request in requests(count):
        answer = exchange(server.port, request)
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "closed"
        statuses[status[:1] + "xx" if status.isdigit() else status] += 1
        if status.startswith("5") and status != "503":
            breaches.append(f"{request[:200]!r} was answered {status}")
        if any(secret.encode() in answer for name, secret in SECRETS.items() if name != "PRISM_API_KEYS"):
            breaches.append(f"{request[:200]!r} was told a secret")
    if server.http.get("/models/iris").json()["status"] != "live":
        breaches.append("the model that was asked is no longer live")
    figures = {kind: str(number) for kind, number in sorted(statuses.items())}
    return Outcome(f"{count} hostile requests of a caller with an API key", figures, tuple(breaches))


def requests(count: int) -> Iterator[bytes]:
    chance = random.Random(SEED)
    for _ in range(count):
        path = chance.choice(MUTATIONS if chance.random() < 0.3 else ("{}",)).format(chance.choice(PATHS))
        host = chance.choice(HOSTS) if chance.random() < 0.2 else "localhost"
        body = chance.choice(BODIES)
        lines = [f"{chance.choice(METHODS)} {path} HTTP/1.1", f"Host: {host}", f"X-API-Key: {API_KEY}"]
        lines += chance.sample(HEADERS, chance.choice((0, 0, 1, 2, 4)))
        if chance.random() < 0.9:
            lines.append(f"Content-Length: {len(body)}")
        if chance.random() < 0.7:
            lines.append(f"Content-Type: {chance.choice(('application/json', 'text/csv', 'application/octet-stream'))}")
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        yield torn(request, chance) if chance.random() < 0.1 else request


def torn(request: bytes, chance: random.Random) -> bytes:
    """The same with a few bytes changed, or with its end missing."""
    if chance.random() < 0.3:
        return request[: chance.randrange(len(request))]
    content = bytearray(request)
    for _ in range(chance.randrange(1, 5)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def exchange(port: int, request: bytes) -> bytes:
    """What comes back until the answer is whole, the connection is closed, or nothing more is to come."""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(1 << 16):
                answer += data
        except (TimeoutError, ConnectionError):
            pass
    return re.sub(rb"^HTTP/1.1 100 Continue\r\n\r\n", b"", answer)
