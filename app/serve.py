"""`python -m app.serve`: the server process. It records its address in `server.json`, for `prism stop` and `status`.

SIGTERM and SIGINT stop the models and the server. SIGUSR2 stops the server and leaves the models running, for the next
server to adopt.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable

import psutil
import structlog
import uvicorn
import uvloop

from app.config.recorded import recorded
from app.core.atomic_file import write_atomic
from app.core.os_errors import log_fields
from app.dispatch.listener import listener_config
from app.errors import InvalidSetting, PrismError
from app.main import create_app
from app.prepare import prepare
from app.reload import code_changed
from app.settings import Settings
from app.version import VERSION

log = structlog.get_logger(__name__)

PORT_PATIENCE_SECONDS = 5.0
"""Longest wait for a port in use: a server that was killed holds it until its memory is freed."""

PORT_POLL_SECONDS = 0.05


def _say(text: str) -> None:
    print(f"prism: {text}", file=sys.stderr, flush=True)


def main() -> None:
    try:
        settings = prepare()
        listener = bind(settings)
    except PrismError as error:
        sys.exit(f"prism: {error}")
    with contextlib.suppress(KeyboardInterrupt), listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            again = runner.run(serve(settings, listener))
        except InvalidSetting as error:
            sys.exit(f"prism: {error}")
        if again:
            os.execv(sys.executable, [sys.executable, "-m", "app.serve"])


def bind(
    settings: Settings, say: Callable[[str], None] = _say, patience_seconds: float = PORT_PATIENCE_SECONDS
) -> socket.socket:
    """Bind the listening socket; wait for a port that is in use, and say so once. Raises InvalidSetting.

    It is bound here and not by uvicorn, so that a taken port is reported in one clear line before anything else begins.
    """
    deadline, is_told = time.monotonic() + patience_seconds, False
    while True:
        try:
            return _bound(settings)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise InvalidSetting(
                    f"The server cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
                    hint="Choose another port: `prism run 8001`, or `prism config set port 8001`.",
                ) from error
        if not is_told:
            is_told = True
            say(f"{settings.host}:{settings.port} is still in use; waiting up to {patience_seconds:g} s for it")
        time.sleep(PORT_POLL_SECONDS)


def _bound(settings: Settings) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


async def serve(settings: Settings, listener: socket.socket) -> bool:
    """Serve until a signal or, where the code is watched, until it changes.

    Returns whether the server is to start anew.
    """
    app = create_app(settings)
    config = listener_config(app, app.state.door, "on", settings.keep_alive_seconds, settings.drain_timeout_seconds)
    server = AnnouncedServer(config, settings, app.state.system.end_streams)

    def stop_keeping_models() -> None:
        app.state.keep_models = True
        server.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, stop_keeping_models)
    watching = asyncio.create_task(code_changed()) if settings.reload else None
    if watching is not None:
        watching.add_done_callback(lambda task: None if task.cancelled() else stop_keeping_models())
    await server.serve(sockets=[listener])
    again = watching is not None and watching.done()
    if watching is not None:
        watching.cancel()
    return again


class AnnouncedServer(uvicorn.Server):
    """A server that records its address, from when it accepts requests until it ends.

    end_streams: called when it begins to end; all other requests under way are waited for.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._settings = settings
        self._record = settings.run_folder / "server.json"
        self._end_streams = end_streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started or not sockets:
            return
        port = sockets[0].getsockname()[1]
        host = self._settings.host
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        tune_gc()
        record = {
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "host": host,
            "port": port,
            "url": url,
            "version": VERSION,
            "settings": recorded(self._settings, salt=secrets.token_hex(16)),
        }
        try:
            write_atomic(self._record, json.dumps(record).encode())
        except OSError as error:  # the server works without the record
            log.error("`prism stop` and `prism status` cannot find this server", **log_fields(error))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()
        try:
            await super().shutdown(sockets)
        finally:
            with contextlib.suppress(OSError):
                self._record.unlink(missing_ok=True)


def tune_gc() -> None:
    """Freeze the objects loaded so far, and collect garbage rarely.

    What is loaded by now stays for good, and requests and connections are freed by their reference counts. A collection
    that walks through all of it, or through thousands of idle connections, stalls every request for 50 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


if __name__ == "__main__":
    main()
