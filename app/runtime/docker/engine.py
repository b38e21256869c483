"""Asks whether a Docker engine answers, asks it questions in threads, and puts its errors into those of `app.errors`.

docker-py (0.2 s and 7 MB) is imported at the first question that needs it: a server without models never pays for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from app.core.child_environment import CREDENTIAL_HELPERS, LANGUAGE, USER, USER_FOLDERS, blanked_environment
from app.errors import NotFound, PrismError, TargetUnavailable

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.errors import APIError

T = TypeVar("T")
Refusal = Callable[[str], PrismError]
"""A function that makes the error for what the engine refused, from the engine's own words."""

DEFAULT_URL = "unix:///var/run/docker.sock"
PING_SECONDS = 3.0
ANSWER_SECONDS = 60
THREADS = 16
FOR_HELPERS = (*USER, *LANGUAGE, *USER_FOLDERS, *CREDENTIAL_HELPERS)
CHUNKS_AHEAD = 1000
FIX = "Start Docker (`docker info` must work), or set PRISM_TARGET=process, which needs no engine."


def engine_url() -> str:
    """Return the engine's address from DOCKER_HOST, which the `docker` command and docker-py read, too."""
    return os.environ.get("DOCKER_HOST") or DEFAULT_URL


def engine_answers() -> bool:
    """Return whether an engine answers a ping. Takes a few milliseconds, PING_SECONDS at worst."""
    return _get("/_ping") is not None


def engine_version() -> str:
    """Return the version of the engine that answers. Raises OSError, which says why none does."""
    try:
        return str(json.loads(_ask("/version"))["Version"])
    except (ValueError, KeyError, http.client.HTTPException) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def engine_info() -> dict[str, Any]:
    """Return what `docker info` shows. Raises OSError, which says why the engine does not answer."""
    try:
        return dict(json.loads(_ask("/info")))
    except (ValueError, http.client.HTTPException) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _get(path: str) -> bytes | None:
    """Return the answer of a healthy engine; None if there is none."""
    try:
        return _ask(path)
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _ask(path: str) -> bytes:
    """Return the answer to GET. Raises OSError, HTTPException, or ValueError for an address that cannot be asked."""
    connection = _connection(engine_url())
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise OSError(f"it answers {response.status}")
    return body


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PING_SECONDS)
        self._path = path

    def connect(self) -> None:
        # Closed with the connection also where connecting fails.
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PING_SECONDS)
        self.sock.connect(self._path)


def _connection(url: str) -> http.client.HTTPConnection:
    """Make a connection to this address. Raises ValueError for a kind that cannot be asked, such as ssh://."""
    parts = urlsplit(url)
    if parts.scheme in ("unix", "http+unix"):
        return _UnixConnection(parts.path)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise ValueError(url)
    if parts.scheme != "https" and not os.environ.get("DOCKER_TLS_VERIFY"):
        return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=PING_SECONDS)
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    trust = ssl.create_default_context(cafile=folder / "ca.pem" if (folder / "ca.pem").is_file() else None)
    if (folder / "cert.pem").is_file():
        trust.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return http.client.HTTPSConnection(parts.hostname, parts.port or 2376, timeout=PING_SECONDS, context=trust)


class Engine:
    """The engine. Each question to it has a client of its own: nothing is shared by threads or left open."""

    def __init__(self) -> None:
        # Not asyncio's own few threads: `docker stop` blocks for as long as a replica may drain.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._version = ""
        self._shares_this_machine: bool | None = None

    async def ask(self, question: Callable[[DockerClient], T], refused: Refusal = TargetUnavailable) -> T:
        """Return the answer to `question`, which runs in a thread.

        Raises NotFound for what the engine does not have, `refused` for what it will not do, and
        TargetUnavailable when it does not answer.
        """

        def work() -> T:
            with self._client(refused) as client:
                return question(client)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def stream(
        self, begin: Callable[[DockerClient], Iterable[T]], refused: Refusal = TargetUnavailable
    ) -> AsyncIterator[T]:
        """Yield what the engine says, piece by piece. Closing the iterator ends the connection and its thread."""
        stream = _Stream(lambda: self._client(refused), begin)
        try:
            async for piece in stream.pieces():
                yield piece
        finally:
            await stream.close()

    async def has_none(self, labels: list[str]) -> bool:
        """Return whether the engine surely has no container, running or not, with these labels. Uses plain HTTP."""
        path = f"/containers/json?all=1&limit=1&filters={quote(json.dumps({'label': labels}))}"
        return await asyncio.get_running_loop().run_in_executor(self._threads, _get, path) in (b"[]", b"[]\n")

    async def shares_this_machine(self) -> bool:
        """Return whether containers see this machine's folders and users as they are, and we their processes.

        They do not with a remote engine, one in a virtual machine (Docker Desktop), or one that maps user ids.
        """
        if self._shares_this_machine is None:
            near = sys.platform == "linux" and urlsplit(engine_url()).scheme in ("unix", "http+unix")
            self._shares_this_machine = near and not _is_apart(await self.ask(lambda client: client.info()))
        return self._shares_this_machine

    @contextlib.contextmanager
    def _client(self, refused: Refusal) -> Iterator[DockerClient]:
        # docker-py leaves its socket open when nobody listens, so it only speaks to an engine that is there.
        if not engine_answers():
            raise TargetUnavailable(f"No Docker engine answers at {engine_url()}.", hint=FIX)
        import docker
        import requests
        import urllib3
        from docker.errors import APIError, DockerException
        from docker.errors import NotFound as Absent

        client: DockerClient | None = None
        try:
            client = docker.from_env(version=self._version or None, timeout=ANSWER_SECONDS)
            _keep_from_helpers(client)
            self._version = client.api.api_version
            yield client
        except Absent as error:
            raise NotFound(f"The Docker engine does not have it: {explain(error)}") from error
        except APIError as error:
            raise refused(explain(error)) from error
        except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise TargetUnavailable(f"The Docker engine stopped answering: {error}.", hint=FIX) from error
        finally:
            if client:
                client.close()


def _keep_from_helpers(client: DockerClient) -> None:
    """Keep this process's environment from programs that keep passwords: docker-py would hand them all of it."""
    client.api.credstore_env = blanked_environment(FOR_HELPERS)
    client.api.reload_config()


def explain(error: APIError) -> str:
    """Return the engine's own sentence, without the HTTP around it."""
    text = str(error.explanation or error).strip().rstrip(".")
    return f"{text}."


def _is_apart(info: dict[str, Any]) -> bool:
    options = " ".join(info.get("SecurityOptions") or ())
    desktop = "Docker Desktop" in str(info.get("OperatingSystem"))
    return desktop or "name=rootless" in options or "name=userns" in options


class _End:
    """The last that a stream's thread says. error: why it ended early."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


class _Stream:
    """One answer that comes in pieces, read by a thread of its own: it may last for hours."""

    def __init__(
        self,
        client: Callable[[], contextlib.AbstractContextManager[DockerClient]],
        begin: Callable[[DockerClient], Iterable[Any]],
    ) -> None:
        self._client = client
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_AHEAD)
        self._changing = threading.Lock()
        self._responses: list[Any] = []
        self._closed = False
        self._ended = asyncio.Event()
        threading.Thread(target=self._read, name="docker-stream", daemon=True).start()

    async def pieces(self) -> AsyncIterator[Any]:
        while True:
            piece = await self._queue.get()
            self._room.release()
            if isinstance(piece, _End):
                if piece.error:
                    raise piece.error
                return
            yield piece

    async def close(self) -> None:
        with self._changing:
            self._closed = True
            for response in self._responses:
                _shut(response)
        self._room.release()
        await self._ended.wait()

    def _read(self) -> None:
        error: Exception | None = None
        try:
            with self._client() as client:
                client.api.hooks["response"].append(self._answered)
                for piece in self._begin(client):
                    self._room.acquire()
                    if self._closed:
                        break
                    self._post(self._queue.put_nowait, piece)
        except Exception as problem:  # handed on to whoever reads the pieces
            error = problem
        finally:
            for response in self._responses:
                response.close()
        self._post(self._queue.put_nowait, _End(error))
        self._post(self._ended.set)

    def _post(self, function: Callable[..., Any], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before us
            self._loop.call_soon_threadsafe(function, *arguments)

    def _answered(self, response: Any, *_: Any, **__: Any) -> None:
        """Remember the connection, so that another thread can end it."""
        with self._changing:
            self._responses.append(response)
            if self._closed:
                _shut(response)


def _shut(response: Any) -> None:
    """Wake up the thread that waits for more of this response. It then reads an end."""
    from docker.types import CancellableStream

    with contextlib.suppress(OSError, AttributeError):  # it has been read to its end
        CancellableStream(iter(()), response).close()
