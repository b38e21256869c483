"""A small real HTTP server that answers as PRISM does, for tests of the SDK and the command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PIN = {"distribution": "scikit-learn", "specifier": "==1.5.2", "evidence": "`_sklearn_version` is 1.5.2"}
NOT_FOUND = {"status": 404, "code": "not_found", "detail": "No model is called `nobody`.", "hint": "GET /models."}


def document(status: str = "live", **fields: Any) -> dict[str, Any]:
    return {
        "model_id": "m1",
        "name": "iris",
        "version": "1.0.0",
        "ref": "iris@1.0.0",
        "status": status,
        "target": "process",
        "endpoint": "http://127.0.0.1:1/models/iris/predict",
        "artifact": {"filename": "iris.joblib", "sha256": "0", "size_bytes": 1200},
        "sample": {"input": [5.1, "it's"]},
        "environment": {"python": "3.11", "python_evidence": "the default", "hash": "h", "packages": [], "pins": [PIN]},
        "timings_ms": {"receive": 3.0, "inspect": 4.0},
        "not_known_to_this_sdk": True,
        **fields,
    }


@dataclass
class SmallServer:
    """states: what GET /models/m1 answers, one after another, the last for ever. received: the length of each
    request's body. upload: the beginning of the last model uploaded."""

    url: str = ""
    states: list[dict[str, Any]] = field(default_factory=lambda: [document()])
    down: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)
    version: str = "0.1.0"
    leftovers: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    key: str = ""
    most_predictions: int = 1 << 30
    """How many are answered; all others exceed a rate limit."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    upload: bytes = b""
    stops: list[str] = field(default_factory=list)
    """What a model that is started stops, unless it is to be kept beside others."""
    cuts: list[int] = field(default_factory=list)
    """After how many lines each stream of a log is cut off; those after that are whole."""

    def next_state(self) -> dict[str, Any]:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@contextmanager
def small_server() -> Iterator[SmallServer]:
    state = SmallServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, body: Any, status: int = 200, **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Request-ID", "r1")
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def follow(self, after: int) -> None:
            """Three lines, and the signs of life between them."""
            count = state.cuts.pop(0) if state.cuts else 3
            events = [f"id: {i}\ndata: line {i}\n\nevent: alive\ndata: \n\n".encode() for i in (1, 2, 3)][after:]
            if count >= len(events):
                return self.answer(
                    b"".join(events) + b"event: end\ndata: stopped\n\n", Content_Type="text/event-stream"
                )
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"".join(events[:count]) + b"id: 9\ndata: half a li")
            self.close_connection = True

        def body(self) -> bytes:
            """Read and counted in blocks; only the beginning is kept."""
            left, kept = int(self.headers.get("Content-Length", 0)), b""
            state.received.append(left)
            while left:
                block = self.rfile.read(min(left, 1 << 16))
                left -= len(block)
                kept = kept if len(kept) > 1 << 16 else kept + block
            return kept

        def route(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            state.requests.append((self.command, self.path))
            body = self.body()
            if parts.path == "/health":
                health: dict[str, Any] = {"status": "ok", "version": state.version, "models": {"live": 1}}
                health |= {"down": state.down, "unavailable": state.unavailable, "failed": state.failed}
                return self.answer(health)
            if parts.path == "/health/monitor":
                return self.answer({"unsaved": []})
            if state.key and self.headers.get("X-API-Key") != state.key:
                return self.answer({"status": 401, "code": "unauthorized", "detail": "A key is needed."}, 401)
            match self.command, parts.path.strip("/").split("/"):
                case "GET", ["storage"]:
                    images = {"model_id": "m1", "ref": "iris@1.0.0", "images": ["prism_model_m1"], "size_bytes": 6e6}
                    below = {"environments": 1, "environments_bytes": 2e8, "unavailable": []}
                    self.answer({"models": [images], **below, "leftovers": state.leftovers})
                case "POST", ["storage", "prune"]:
                    self.answer({"removed": state.leftovers, "size_bytes": 7_000_000})
                case "GET", ["doctor"]:
                    self.answer({"version": state.version, "checks": state.checks})
                case "GET", ["models"]:
                    self.answer({"models": [state.states[-1]]})
                case "POST", ["models", "upload" | "upload-and-run"]:
                    state.upload = body
                    self.answer(document("received"), 202, Location="/models/m1")
                case "GET", ["models", "iris" | "m1"]:
                    self.answer(state.next_state())
                case "DELETE", ["models", "m1"]:
                    self.answer({"removed": ["container prism_model_m1"]})
                case "POST", ["models", "iris", "predict"]:
                    said: dict[str, Any] = {
                        "model": "iris",
                        "version": "1.0.0",
                        "model_id": "m1",
                        "predictions": ["setosa"],
                    }
                    if "probabilities" in query:
                        said |= {"probabilities": [[0.9, 0.1]], "classes": ["setosa", "other"]}
                    state.most_predictions -= 1
                    if state.most_predictions < 0:
                        return self.answer({"status": 429, "code": "rate_limited", "detail": "Too many."}, 429)
                    self.answer(said, Server_Timing="queue;dur=0.1, inference;dur=2.5")
                case "GET", ["replacement"] if "ref" in query:
                    stops = [] if query.get("keep") == ["true"] else state.stops
                    self.answer({"name": "iris", "version": "1.0.0", "stops": stops})
                case "GET", ["models", "iris", "logs"] if "follow" in query:
                    self.follow(int(query.get("after", ["0"])[0]))
                case "GET", ["models", "iris", "logs"]:
                    self.answer(b"line 1\n\x1b[31mred\nlast\n", Content_Type="text/plain")
                case "POST", ["models", "iris" | "m1", "start" | "stop" | "restart" | "dismiss" as action]:
                    self.answer(document("stopped" if action == "stop" else "live"))
                case _:
                    self.answer(NOT_FOUND, 404)

        do_GET = do_POST = do_DELETE = route

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
