"""Programs that are run, not looked at: against a server that gives back what it received."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.ui.snippets import JSON_WORDS, PYTHON_WORDS, is_safe, snippets, written

KEY = "a key with 'quotes' and $signs"
NASTY = {
    "it's": 'a "quoted" `word` $HOME $(whoami) \\ back',
    "lines": "one\ntwo\r\n\ttabbed\x00\x1b[31m",
    "JSON": "JSON\nJSON",
    "unicode": "grüße ✓ 😀 \u2028\u2029\u0085 \ufeff\u202e",
    "html": "</code><script>alert(1)</script>&amp;",
    "numbers": [1, -2.5, 1e300, 5e-324, 0.1, 2**53 - 1, None, True, False, [], {}],
    "template": "${x} {{ y }} %s {0}",
}
UNSAFE = [2**53 + 1, {"__proto__": {"a": 1}}, [-(2**64)], {"a": [{"b": 10**30}]}]


class Echo:
    """url, and the requests that came: path, key and body."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str | None, Any]] = []
        echo = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/json"
                echo.received.append((self.path, self.headers.get("X-API-Key"), json.loads(body)))
                answer = {"model": "m", "version": "1", "model_id": "i", "predictions": [json.loads(body)]}
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    echo = Echo()
    thread = threading.Thread(target=echo.server.serve_forever, args=(0.02,))
    thread.start()
    yield echo
    echo.server.shutdown()
    echo.server.server_close()
    thread.join()


RUN = {
    "curl": ["bash", "-c"],
    "python": [sys.executable, "-c"],
    "sdk": [sys.executable, "-c"],
    "javascript": ["node", "-e"],
}
PROGRAMS = [pytest.param(name, marks=pytest.mark.node if name == "javascript" else ()) for name in RUN]


def run(name: str, code: str, **environ: str) -> str:
    """What the snippet prints when it is pasted where it belongs."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run([*RUN[name], code], capture_output=True, check=False, env={**kept, **environ}, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def code_of(
    name: str, url: str, body: Any, ref: str = "iris", *, probabilities: bool = False, key: bool = False
) -> str:
    found = snippets(url, ref, body, probabilities=probabilities, needs_key=key)
    return next(snippet.code for snippet in found if snippet.id == name)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("body", [NASTY, [[1.5, None]], "text", *UNSAFE], ids=repr)
def test_a_snippet_runs_unchanged_and_sends_the_exact_values(name: str, body: Any, echo: Echo) -> None:
    run(name, code_of(name, echo.url, body))
    assert echo.received.pop() == ("/models/iris/predict", None, body)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_snippet_asks_for_probabilities_and_sends_the_key_of_its_environment(name: str, echo: Echo) -> None:
    code = code_of(name, echo.url, {"a": 1}, "grüße model@1.0.0", probabilities=True, key=True)
    assert KEY not in code
    run(name, code, PRISM_API_KEY=KEY)
    path, key, body = echo.received.pop()
    assert path == "/models/gr%C3%BC%C3%9Fe%20model@1.0.0/predict?probabilities=true"
    assert (key, body) == (KEY, {"a": 1})


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_snippet_prints_the_answer(name: str, echo: Echo) -> None:
    said = run(name, code_of(name, echo.url, {"a": "grüße"}), PYTHONIOENCODING="utf-8")
    answer = json.loads(said.replace("'", '"'))
    assert answer["predictions"] == [{"a": "grüße"}]


def test_the_key_is_asked_for_only_where_one_is_needed() -> None:
    for snippet in snippets("http://h", "m", [1], probabilities=False, needs_key=False):
        assert "KEY" not in snippet.code


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=9), st.dictionaries(st.text(max_size=9), inner, max_size=5)),
    max_leaves=30,
)


@given(JSON)
def test_a_written_literal_evaluates_to_the_value(value: Any) -> None:
    text = written(value, JSON_WORDS)
    assert json.loads(text) == value
    assert eval(written(value, PYTHON_WORDS)) == value
    assert all(char.isprintable() or char in "\n" or char > "\uffff" for char in text)


@given(st.lists(st.integers(0, 9), min_size=60, max_size=300))
def test_a_long_list_is_wrapped_into_full_lines(values: list[int]) -> None:
    lines = written(values, JSON_WORDS).splitlines()
    assert max(map(len, lines)) <= 90
    assert len(lines) <= len(values) * 3 // 80 + 4


def test_numbers_beyond_javascripts_range_are_recognised() -> None:
    assert is_safe(NASTY)
    assert not any(is_safe(value) for value in UNSAFE)
    assert not is_safe(json.loads("1e999"))


@pytest.mark.node
@given(values=st.lists(JSON.filter(is_safe), min_size=30, max_size=30))
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
def test_javascript_reads_what_is_written_for_it(values: list[Any]) -> None:
    script = (
        "process.stdout.write(JSON.stringify([" + ",\n".join(written(value, JSON_WORDS, 1) for value in values) + "]))"
    )
    done = subprocess.run(["node", "-"], input=script.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout, parse_int=float) == values
