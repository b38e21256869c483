"""Run of a load test: which connection sends what and when, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import signal
import ssl
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any
from urllib.parse import SplitResult, urlsplit

from prism.errors import ConnectionFailed, InvalidRequest
from prism.load.connection import Connection
from prism.load.latencies import Latencies
from prism.load.pace import Pace
from prism.load.result import Answers, Result

FINEST_TICK_SECONDS = 0.00025
"""Shortest interval between ticks.

Above 4,000 requests a second, the requests of one tick leave together, at most this late.
"""
CONNECT_AT_ONCE = 100
CONNECT_SECONDS = 10
RECONNECT_SECONDS = 0.05
SPARE_FILES = 64


def run(url: str, bodies: Sequence[bytes], **options: Any) -> Result:
    """Run `load` in a new event loop (uvloop if it is installed); Ctrl-C ends it early."""
    _allow_open_files(int(options.get("connections", 64)) + SPARE_FILES)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_until_interrupted(url, bodies, **options))


async def load(
    url: str,
    bodies: Sequence[bytes],
    *,
    connections: int = 64,
    seconds: float = 10,
    rate: float | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    grace_seconds: float = 5,
    stop: asyncio.Event | None = None,
) -> Result:
    """Send the bodies in turn for `seconds` over `connections` that stay open, one request at a time on each.

    rate: requests per second over all connections, each due at its own time; None sends as fast as answers come.
    headers: besides Host, Content-Length and Content-Type: application/json. grace_seconds: how long to wait for
    requests that are under way at the end. stop: ends the run early when set.

    It runs in one process and takes about 30 µs of CPU per request: `Result.client_cpu_share` shows how close that was
    to being the limit. Raises ConnectionFailed if the server accepts no connections, and InvalidRequest for an invalid
    URL.
    """
    parts = _address(url)
    requests = [_request(parts, method, headers or {}, body) for body in bodies]
    work = _Run(parts, requests, rate)
    try:
        await work.connect(connections)
        return await work.measure(seconds, grace_seconds, stop or asyncio.Event())
    finally:
        work.close()


class _Run:
    """State of one run. Due times count from `_began`: request i of an open loop is due i / rate later."""

    def __init__(self, parts: SplitResult, requests: Sequence[bytes], rate: float | None) -> None:
        self._parts = parts
        self._requests = cycle(requests)
        self._rate = rate
        self._connections: set[Connection] = set()
        self._free: deque[Connection] = deque()
        self._reconnecting: set[asyncio.Task[None]] = set()
        self._answers: dict[int, Answers] = {}
        self._failures: Counter[str] = Counter()
        self._lag = Latencies()
        self._number = self._under_way = self._sent_bytes = self._received_bytes = 0
        self._began = self._end = 0.0
        self._running = self._closed = False
        self._quiet = asyncio.Event()
        self._peer: tuple[str, int] | None = None

    async def connect(self, count: int) -> None:
        try:
            self._free.append(await self._open())
            while len(self._free) < count:
                missing = min(CONNECT_AT_ONCE, count - len(self._free))
                self._free.extend(await asyncio.gather(*(self._open() for _ in range(missing))))
        except (OSError, TimeoutError) as error:
            raise _not_connected(self._parts, error, len(self._free)) from error

    async def measure(self, seconds: float, grace_seconds: float, stop: asyncio.Event) -> Result:
        connections = len(self._free)
        used = time.process_time()
        self._began = time.monotonic()
        self._end = self._began + seconds
        self._running = True
        self._send_due()
        pace = Pace(self._next_tick(), self._tick) if self._rate else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        self._running = False
        now = time.monotonic()
        lasted, used = now - self._began, time.process_time() - used
        due = int((min(now, self._end) - self._began) * self._rate) if self._rate else self._number
        if pace is not None:
            pace.stop()
        for answers in self._answers.values():
            answers.in_time = answers.count
        if self._under_way:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), grace_seconds)
        return Result(
            seconds=lasted,
            connections=connections,
            rate=self._rate,
            answers=dict(sorted(self._answers.items())),
            failures=dict(self._failures),
            unanswered=self._under_way,
            unsent=max(0, due - self._number),
            sent_bytes=self._sent_bytes,
            received_bytes=self._received_bytes + sum(connection.received_bytes for connection in self._connections),
            lag=self._lag,
            client_cpu_share=used / lasted,
            interrupted=stop.is_set(),
        )

    def close(self) -> None:
        self._closed = True
        for task in self._reconnecting:
            task.cancel()
        for connection in self._connections:
            connection.close()

    def is_open(self, connection: Connection) -> None:
        """Register a connection. One that was reopened while the run ended is closed, since nobody else knows it."""
        if self._closed:
            connection.close()
        else:
            self._connections.add(connection)

    def is_free(self, connection: Connection, now: float) -> None:
        due = self._due(now)
        if due is None:
            self._free.append(connection)
        else:
            self._send(connection, due, now)

    def has_answer(self, status: int, due: float, sent: float, now: float) -> None:
        answers = self._answers.get(status)
        if answers is None:
            answers = self._answers[status] = self._new_answers()
        answers.latency.record(now - due)
        if answers.response is not answers.latency:
            answers.response.record(now - sent)
        self._settle()

    def is_lost(self, connection: Connection, was_asked: bool, reason: str) -> None:
        if self._closed:
            return
        self._connections.discard(connection)
        self._received_bytes += connection.received_bytes
        with contextlib.suppress(ValueError):
            self._free.remove(connection)
        if was_asked:
            self._failures[reason] += 1
            self._settle()
        if self._running:
            task = asyncio.ensure_future(self._reopen())
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)

    def _tick(self) -> float:
        self._send_due()
        return self._next_tick()

    def _next_tick(self) -> float:
        due = self._began + self._number / self._rate if self._rate else self._end
        return max(due, time.monotonic() + FINEST_TICK_SECONDS)

    def _send_due(self) -> None:
        """Send the requests that are due, as long as connections are free."""
        now = time.monotonic()
        while self._free:
            due = self._due(now)
            if due is None:
                return
            if self._rate:
                self._lag.record(now - due)
            self._send(self._free.popleft(), due, now)

    def _due(self, now: float) -> float | None:
        """Return when the next request was due, None if it is not due yet."""
        if not self._running or now >= self._end:
            return None
        if not self._rate:
            return now
        due = self._began + self._number / self._rate
        return due if due <= now else None

    def _send(self, connection: Connection, due: float, now: float) -> None:
        request = next(self._requests)
        self._number += 1
        self._under_way += 1
        self._sent_bytes += len(request)
        connection.send(request, due, now)

    def _settle(self) -> None:
        self._under_way -= 1
        if not self._under_way and not self._running:
            self._quiet.set()

    def _new_answers(self) -> Answers:
        latency = Latencies()
        return Answers(latency, Latencies() if self._rate else latency)

    async def _open(self) -> Connection:
        """Open a connection. The host name is resolved once; all further connections use the first one's address."""
        host, port = self._peer or (self._parts.hostname or "", self._parts.port or _default_port(self._parts))
        context = ssl.create_default_context() if self._parts.scheme == "https" else None
        opening = asyncio.get_running_loop().create_connection(
            lambda: Connection(self), host, port, ssl=context, server_hostname=self._parts.hostname if context else None
        )
        transport, connection = await asyncio.wait_for(opening, CONNECT_SECONDS)
        if self._peer is None:
            address = transport.get_extra_info("peername")
            self._peer = (address[0], address[1])
        return connection

    async def _reopen(self) -> None:
        while self._running:
            try:
                connection = await self._open()
            except (OSError, TimeoutError):
                self._failures["the server accepted no connection"] += 1
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                self.is_free(connection, time.monotonic())
                return


def _request(parts: SplitResult, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {"Host": parts.netloc.rpartition("@")[2], "Content-Type": "application/json", **headers}
    if body or method not in ("GET", "HEAD"):
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def _address(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"{url!r} is not an http:// or https:// URL.", hint="Write it like http://127.0.0.1:8000.")
    return parts


def _default_port(parts: SplitResult) -> int:
    return 443 if parts.scheme == "https" else 80


def _not_connected(parts: SplitResult, error: Exception, opened: int) -> ConnectionFailed:
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        hint = "Use fewer connections, or raise the limit of open files: `ulimit -n 20000`."
    else:
        hint = "Check that it runs and, with many connections, that its limit of open files is high enough."
    reason = str(error) or type(error).__name__
    return ConnectionFailed(
        f"{parts.netloc} accepted {opened} connections and no more ({reason}).", hint=hint, sent=False
    )


async def _until_interrupted(url: str, bodies: Sequence[bytes], **options: Any) -> Result:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    try:
        return await load(url, bodies, stop=stop, **options)
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _allow_open_files(count: int) -> None:
    """Raise the soft limit on open files as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _loop_factory() -> Any:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop
