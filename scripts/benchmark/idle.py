"""`python -m scripts.benchmark.idle PORT COUNT PATH`: connections that asked once and then stay open.

Prints `open N` once all have their answer; then, for each line on standard input, how many the server still holds;
at the end of the input it closes them. The body of the request is the first line of the input.
"""

from __future__ import annotations

import asyncio
import resource
import sys

from prism.load.response import ResponseReader

AT_ONCE = 100
PER_ADDRESS = 5000
"""Connections from one source address, so that enough ephemeral ports remain for the load."""


def key(number: int) -> str:
    """Each connection has an API key of its own."""
    return f"k{number:06}"


class Idle(asyncio.Protocol):
    """answered: resolved by the end of the one answer, or by an error."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._reader = ResponseReader()
        self.answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._reader.feed(data):
            self.answered.set_result(self._reader.status)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if not self.answered.done():
            self.answered.set_exception(error or ConnectionError("closed before the answer"))


async def main(port: int, count: int, path: str) -> None:
    body = sys.stdin.readline().strip()
    address = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    held: list[Idle] = []
    while len(held) < count:
        source = _source(len(held))
        numbers = range(len(held), min(len(held) + AT_ONCE, count))
        requests = [f"{address}X-API-Key: {key(number)}\r\n{content}".encode() for number in numbers]
        held += await asyncio.gather(*(_open(port, source, request) for request in requests))
    print(f"open {sum(idle.is_open for idle in held)}", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(sum(idle.is_open for idle in held), flush=True)


async def _open(port: int, source: str, request: bytes) -> Idle:
    loop = asyncio.get_running_loop()
    _, idle = await loop.create_connection(lambda: Idle(request), "127.0.0.1", port, local_addr=(source, 0))
    status = await idle.answered
    if status != 200:
        raise SystemExit(f"idle: the answer was {status}")
    return idle


def _source(opened: int) -> str:
    """127.0.0.1, .2, …: all of them are this machine on Linux; elsewhere only the first is."""
    return f"127.0.0.{1 + opened // PER_ADDRESS}" if sys.platform == "linux" else "127.0.0.1"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
