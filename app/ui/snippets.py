"""A request as programs to copy and run unchanged: curl, Python, JavaScript, and PRISM's own client."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from model_container.contract.file_types import AUDIO, IMAGE

WIDTH = 88
SAFE_INTEGER = 2**53 - 1
"""Largest integer that a JavaScript number represents without ambiguity (Number.MAX_SAFE_INTEGER)."""

JSON_WORDS = {None: "null", True: "true", False: "false"}
PYTHON_WORDS = {None: "None", True: "True", False: "False"}


class BodyFile(Struct, frozen=True):
    """Body that is a file beside the program. field: its name in a form."""

    field: str
    name: str
    content_type: str


FILES = {
    IMAGE: BodyFile(IMAGE, "image.png", "image/png"),
    AUDIO: BodyFile(AUDIO, "sound.wav", "audio/wav"),
}
"""The files of the programs, by what the model takes."""


class Snippet(Struct, frozen=True):
    """Program for one language. id: identifies it on the page. title: shown to people."""

    id: str
    title: str
    code: str


def snippets(base_url: str, ref: str, body: Any, *, probabilities: bool, needs_key: bool) -> tuple[Snippet, ...]:
    """Return the request as programs. base_url: this server's URL without a trailing slash. body: a JSON value, or a file.

    If a key is needed, the programs take it from the environment variable PRISM_API_KEY.
    """
    url = f"{base_url}/models/{quote(ref, safe='@')}/predict" + ("?probabilities=true" if probabilities else "")
    return (
        Snippet("curl", "curl", curl(url, body, needs_key)),
        Snippet("python", "Python", python(url, body, needs_key)),
        Snippet("javascript", "JavaScript", javascript(url, body, needs_key)),
        Snippet("sdk", "PRISM SDK", sdk(base_url, ref, body, probabilities)),
    )


def curl(url: str, body: Any, needs_key: bool) -> str:
    """Return a curl command. A JSON body is in a quoted here-document, in which the shell expands nothing."""
    key = ['  -H "X-API-Key: $PRISM_API_KEY" \\'] if needs_key else []
    if isinstance(body, BodyFile):
        return "\n".join([f"curl -sS {shlex.quote(url)} \\", *key, f"  -F {body.field}=@{body.name}"])
    return "\n".join(
        [
            f"curl -sS {shlex.quote(url)} \\",
            *key,
            "  -H 'Content-Type: application/json' \\",
            "  --data-binary @- <<'JSON'",
            written(body, JSON_WORDS),
            "JSON",
        ]
    )


def python(url: str, body: Any, needs_key: bool) -> str:
    key = ', "X-API-Key": os.environ["PRISM_API_KEY"]' if needs_key else ""
    imports = ["import json", *(["import os"] if needs_key else []), "import urllib.request"]
    content, kind = "json.dumps(body).encode()", "application/json"
    if isinstance(body, BodyFile):
        imports, content, kind = [*imports, "from pathlib import Path"], "body", body.content_type
    return "\n".join(
        [
            *imports,
            "",
            f"body = {_python_body(body)}",
            "request = urllib.request.Request(",
            f"    {json.dumps(url)},",
            f"    data={content},",
            f'    headers={{"Content-Type": "{kind}"{key}}},',
            ")",
            "with urllib.request.urlopen(request) as response:",
            "    print(json.load(response))",
        ]
    )


def javascript(url: str, body: Any, needs_key: bool) -> str:
    """Return code for Node.js 18 and later and, unless the body is a file, for a browser's console.

    A body with values that JavaScript's numbers cannot represent is sent as literal text.
    """
    kind = body.content_type if isinstance(body, BodyFile) else "application/json"
    key = '\n    "X-API-Key": globalThis.process?.env.PRISM_API_KEY ?? prompt("API key"),' if needs_key else ""
    if isinstance(body, BodyFile):
        content = f'require("fs").readFileSync("{body.name}")'
    elif is_safe(body):
        content = f"JSON.stringify({written(body, JSON_WORDS, 1)})"
    else:
        content = json.dumps(written(body, JSON_WORDS))
    return f"""\
fetch({json.dumps(url)}, {{
  method: "POST",
  headers: {{
    "Content-Type": "{kind}",{key}
  }},
  body: {content},
}})
  .then((response) => response.json())
  .then((answer) => console.log(JSON.stringify(answer)));"""


def _python_body(body: Any) -> str:
    return f'Path("{body.name}").read_bytes()' if isinstance(body, BodyFile) else written(body, PYTHON_WORDS)


def sdk(base_url: str, ref: str, body: Any, probabilities: bool) -> str:
    more = ", probabilities=True" if probabilities else ""
    is_file = isinstance(body, BodyFile)
    return "\n".join(
        [
            *(["from pathlib import Path", ""] if is_file else []),
            "from prism import Prism",
            "",
            f'body = Path("{body.name}")' if is_file else f"body = {written(body, PYTHON_WORDS)}",
            f"with Prism({json.dumps(base_url)}) as prism:",
            f"    print(prism.predict({json.dumps(ref)}, body{more}).document)",
        ]
    )


def is_safe(value: Any) -> bool:
    """Return whether JavaScript sends this value unchanged when it is written as a literal."""
    if isinstance(value, dict):
        return "__proto__" not in value and all(is_safe(item) for item in value.values())
    if isinstance(value, list):
        return all(is_safe(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) <= SAFE_INTEGER


def written(value: Any, words: Mapping[Any, str], depth: int = 0) -> str:
    """Format a value as JSON or Python: on one line if it fits, otherwise with one item per line."""
    if not isinstance(value, (dict, list)):
        return _atom(value, words)
    one_line = _one_line(value, words)
    indent = "  " * (depth + 1)
    if len(one_line) + len(indent) <= WIDTH or not value:
        return one_line
    if isinstance(value, dict):
        items = [f"{_atom(key, words)}: {written(item, words, depth + 1)}" for key, item in value.items()]
        opening, closing = "{", "}"
    else:
        items = _packed([written(item, words, depth + 1) for item in value], WIDTH - len(indent))
        opening, closing = "[", "]"
    lines = f",\n{indent}".join(items)
    return f"{opening}\n{indent}{lines}\n{'  ' * depth}{closing}"


def _packed(items: list[str], width: int) -> list[str]:
    """Join list items with commas, as many on each line as fit."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(item) + 2 <= width and "\n" not in item:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines


def _one_line(value: Any, words: Mapping[Any, str]) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_atom(key, words)}: {_one_line(item, words)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_one_line(item, words) for item in value) + "]"
    return _atom(value, words)


def _atom(value: Any, words: Mapping[Any, str]) -> str:
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def _text(value: str) -> str:
    """Quote text, escaping what is not printable or ends a line in any of the languages.

    JSON's escapes for these characters are also valid in Python and JavaScript.
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() or char > "\uffff" else f"\\u{ord(char):04x}" for char in text)
