"""Requests as bytes on a socket, good ones and broken ones, and how much memory a server has after them."""

from __future__ import annotations

import gzip
import json
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.server import Server

SECONDS = 30.0
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]
LENGTH_HEADER = b"Inference-Header-Content-Length"


class Sent(NamedTuple):
    """body: what follows the head. length: what the head says of it, where that is not true."""

    path: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Content-Type", b"application/json"),)
    length: int | None = None

    def encoded(self) -> bytes:
        length = len(self.body) if self.length is None else self.length
        lines = [b"POST %s HTTP/1.1" % self.path.encode(), b"Host: localhost", b"Content-Length: %d" % length]
        lines += [b"%s: %s" % header for header in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


def v2_json(values: bytes = b"5.1, 3.5, 1.4, 0.2", shape: bytes = b"[1, 4]", datatype: bytes = b"FP64") -> bytes:
    inner = b'{"name": "rows", "shape": %s, "datatype": "%s", "data": [%s]}'
    return b'{"inputs": [%s]}' % (inner % (shape, datatype, values))


def v2_binary(
    path: str, said_bytes: int = 32, shape: str = "[1, 4]", datatype: str = "FP64", json_length: bytes = b""
) -> Sent:
    head = (
        f'{{"inputs": [{{"name": "rows", "shape": {shape}, "datatype": "{datatype}", '
        f'"parameters": {{"binary_data_size": {said_bytes}}}}}]}}'
    ).encode()
    length = json_length or b"%d" % len(head)
    return Sent(path, head + struct.pack("<4d", *ROWS[0]), ((LENGTH_HEADER, length),))


INFER = "/v2/models/iris/infer"
ROUTES: dict[str, bytes] = {
    "/models/iris/predict": json.dumps({"features": ROWS}).encode(),
    "/predict/iris": json.dumps({"features": ROWS}).encode(),
    "/predict/iris/batch": json.dumps({"features": ROWS}).encode(),
    "/predict_batched/iris": json.dumps({"features": ROWS[:1]}).encode(),
    "/v1/models/iris:predict": json.dumps({"instances": ROWS}).encode(),
    "/models/iris/invocations": json.dumps({"inputs": ROWS}).encode(),
    "/invocations": json.dumps({"inputs": ROWS}).encode(),
    INFER: v2_json(),
    "/v2/models/iris/versions/1.0.0/infer": v2_json(),
}
"""Each route that predicts, with a body that it answers."""

BINARY = v2_binary(INFER)
CSV = Sent(
    "/invocations",
    b"sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5.1,3.5,1.4,0.2\n",
    ((b"Content-Type", b"text/csv"),),
)
GOOD = [*(Sent(path, body) for path, body in ROUTES.items()), BINARY, CSV]

BODIES: tuple[bytes, ...] = (
    b"",
    b"\0",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b"null",
    b"{}",
    b"[]",
    b'"text"',
    b"NaN",
    b"[[[[[[[[",
    b"[" * 100_000,
    b"[" * 50_000 + b"]" * 50_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"features": ' + b"[" * 400 + b"1" + b"]" * 400 + b"}",
    b'{"features": [[1e999, -1e999, 1e-999, 1]]}',
    b'{"features": [[NaN, Infinity, -Infinity, 1]]}',
    b'{"features": [[%s, 1, 1, 1]]}' % (b"9" * 5000),
    b'{"features": [[0.%s, 1, 1, 1]]}' % (b"9" * 5000),
    b'{"features": [[1e%s, 1, 1, 1]]}' % (b"9" * 20),
    b'{"features": [["\\ud800", "\\u0000", true, null]]}',
    b'{"features": [["\xed\xa0\x80", 1, 1, 1]]}',
    b'{"features": [[1, 2, 3, 4]], "features": [[1]]}',
    b'{"features": 1, "inputs": 2, "instances": 3}',
    b'{"features": [[1, 2], [3, 4, 5], 6, {}]}',
    b'{"inputs": [{"name": 1, "shape": "x", "datatype": null, "data": {}}]}',
    b'{"inputs": [], "outputs": []}',
    b'{"dataframe_split": {"columns": ["a", "a", 1], "data": [[1]]}}',
    b'{"dataframe_records": [{"a": 1}, 2, null]}',
    b'{"instances": {"b64": "=="}}',
    v2_json(shape=b"[4611686018427387904, 4]"),
    v2_json(shape=b"[-1, 4]"),
    v2_json(shape=b"[0, 4]"),
    v2_json(shape=b"[%s]" % b",".join([b"1"] * 300)),
    v2_json(datatype=b"FP7"),
    v2_json(values=b'"x", {}, [], null'),
    v2_json(values=b"1e999, 9%s, 1, 1" % (b"9" * 400), datatype=b"INT64"),
    v2_json(values=b"1, 2, 3"),
)

BINARIES: tuple[Sent, ...] = (
    v2_binary(INFER, said_bytes=0),
    v2_binary(INFER, said_bytes=33),
    v2_binary(INFER, said_bytes=2**63),
    v2_binary(INFER, said_bytes=-1),
    v2_binary(INFER, shape="[4611686018427387904, 4]"),
    v2_binary(INFER, shape="[0, 4]"),
    v2_binary(INFER, datatype="BYTES"),
    v2_binary(INFER, datatype="BF16"),
    v2_binary(INFER, datatype="BOOL", said_bytes=4),
    *(v2_binary(INFER, json_length=length) for length in (b"0", b"1", b"-1", b"99999999999", b"1e3", b"\xb2", b" ")),
)

TYPES = (
    b"",
    b"text/csv",
    b"text/plain",
    b"image/png",
    b"application/json; charset=utf-16",
    b"multipart/form-data",
    b"\xff;;=",
)
BOMB = gzip.compress(b"[" + b"0," * (40 << 20) + b"0]", 1)
"""Some hundred KiB that grow to 80 MiB."""

ENCODINGS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"gzip", lambda body: body),
    (b"gzip", lambda body: gzip.compress(body)[:-6]),
    (b"gzip", lambda body: gzip.compress(body) + b"more"),
    (b"gzip", lambda body: gzip.compress(body) * 2),
    (b"gzip", lambda body: gzip.compress(body)[:10] + b"\xff" * 30),
    (b"gzip", lambda body: gzip.compress(gzip.compress(body))),
    (b"gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    (b"deflate", lambda body: body),
    (b"deflate", lambda body: zlib.compress(body)[2:-4]),
    (b"deflate", lambda body: zlib.compress(body)[:-1]),
    (b"br", lambda body: body),
    (b"identity", lambda body: body),
    (b"\xff", lambda body: body),
)


def broken(chance: random.Random) -> Sent:
    """A request that is whole as HTTP, and whose body is anything."""
    path = chance.choice(list(ROUTES))
    kind = chance.randrange(6)
    if kind == 0:
        return Sent(path, chance.choice(BODIES))
    if kind == 1:
        return chance.choice(BINARIES)
    if kind == 2:
        encoding, encode = chance.choice(ENCODINGS)
        return Sent(path, encode(ROUTES[path]), ((b"Content-Encoding", encoding),))
    if kind == 3:
        return Sent(path, chance.choice((ROUTES[path], CSV.body)), ((b"Content-Type", chance.choice(TYPES)),))
    if kind == 4:
        return BINARY._replace(body=mutated(BINARY.body, chance))
    return Sent(path, mutated(ROUTES[path], chance))


def mutated(body: bytes, chance: random.Random) -> bytes:
    """Cut, doubled, or with some bytes changed or put in between."""
    at = chance.randrange(len(body))
    way = chance.randrange(5)
    if way == 0:
        return body[:at]
    if way == 1:
        return body * 2
    if way == 2:
        return body[:at] + chance.randbytes(chance.randrange(1, 9)) + body[at:]
    if way == 3:
        return body[:at] + body[at + chance.randrange(1, 9) :]
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 5)):
        changed[chance.randrange(len(body))] = chance.randrange(256)
    return bytes(changed)


def torn(chance: random.Random) -> bytes:
    """A request that never ends, or ends too early, or is none; the client then sends no more."""
    path, body = chance.choice(list(ROUTES.items()))
    whole = Sent(path, body).encoded()
    way = chance.randrange(6)
    if way == 0:
        return whole[: chance.randrange(len(whole))]
    if way == 1:
        return Sent(path, body, length=len(body) + chance.randrange(1, 1000)).encoded()
    if way == 2:
        return Sent(path, body, length=chance.randrange(len(body))).encoded()
    if way == 3:
        return Sent(path, b"", ((b"Transfer-Encoding", b"chunked"),)).encoded() + b"fffffffffffffffff\r\n" + body
    if way == 4:
        return mutated(whole, chance)
    return chance.randbytes(chance.randrange(1, 400))


class Line:
    """One connection. Answers are (status, body); None where the server closed instead."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._rest = b""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, sent: Sent) -> tuple[int, bytes] | None:
        self.send(sent.encoded())
        return self.answer()

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # refused before it was whole; the answer may still be there

    def send_no_more(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def answers(self) -> Iterator[tuple[int, bytes]]:
        """All that come until the server closes."""
        while (one := self.answer()) is not None:
            yield one

    def answer(self) -> tuple[int, bytes] | None:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        status = int(head.split(b" ", 2)[1])
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(self._rest) < length:
            if not self._receive():
                return None
        body, self._rest = self._rest[:length], self._rest[length:]
        return status, body

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._rest:
            if not self._receive():
                return None
        found, _, self._rest = self._rest.partition(mark)
        return found

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._rest += data
        return bool(data)


def anonymous_bytes(server: Server) -> dict[int, int]:
    """Of the gateway and of each process below its home, by process id: its share (PSS) of memory that is no file's.

    The share of a library's pages would change with who else on the machine happens to use it.
    """
    assert server.process is not None
    found = {}
    for pid in [server.process.pid, *(one.pid for one in server.replica_processes())]:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found[pid] = next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Anon:"))
    return found
