"""`python -m scripts.benchmark.floor PORT`: what this machine does when there is nothing to do.

A uvloop protocol that reads whatever comes and writes one constant answer, as long as one of PRISM's: no HTTP is parsed,
no key is looked at, no model is asked. Whatever serves from one process in Python is slower.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

BODY = b'{"model":"onnx-linear","version":"1","model_id":"0123456789abcdef0123456789abcdef","predictions":[0]}'
HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"x-request-id: 0123456789abcdef\r\nx-model-version: 1\r\nx-model-id: 0123456789abcdef0123456789abcdef\r\n"
    b'server-timing: queue;dur=0.10, batch;desc="10", inference;dur=0.10\r\nratelimit-limit: 1000000000\r\n'
    b"ratelimit-remaining: 999999999\r\nratelimit-reset: 60\r\n"
)
ANSWER = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


class Constant(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
