"""A company's network on loopback: a private index behind a private CA and a password, and the proxy to it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import subprocess
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

PASSWORD = "hunter22-very-secret"
PACKAGE = "prism-tiny-private"
WHEEL = "prism_tiny_private-1.0-py3-none-any.whl"
WHEEL_FILES = {
    "prism_tiny_private.py": "ANSWER = 42\n",
    "prism_tiny_private-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n",
    "prism_tiny_private-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "prism_tiny_private-1.0.dist-info/RECORD": "".join(
        f"{name},,\n"
        for name in ("prism_tiny_private.py", *(f"prism_tiny_private-1.0.dist-info/{n}" for n in ("METADATA", "WHEEL")))
    ),
}
CONFIGURATION = ("PIP_", "UV_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC")


def forget_configuration(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Simulate a machine where nobody configured pip or uv and nothing was downloaded yet."""
    for name in list(os.environ):
        if name.upper().startswith(CONFIGURATION) or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))


@dataclass
class Index:
    """port: where it listens. ca: the file that makes its certificate believable."""

    port: int
    ca: Path

    def url(self, password: str = PASSWORD) -> str:
        return f"https://bob:{password}@127.0.0.1:{self.port}/simple"


@contextlib.contextmanager
def private_index(folder: Path) -> Iterator[Index]:
    ca, chain = make_certificates(folder)
    wheel = folder / WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in WHEEL_FILES.items():
            archive.writestr(name, content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(wheel.read_bytes()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    # Handshakes happen in each request's own thread: one that is broken off must not end the server.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Index(server.server_address[1], ca)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def handler_for(wheel: bytes) -> type[BaseHTTPRequestHandler]:
    expected = "Basic " + base64.b64encode(f"bob:{PASSWORD}".encode()).decode()
    page = f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
    pages = {f"/simple/{PACKAGE}/": ("text/html", page), f"/files/{WHEEL}": ("application/zip", wheel)}

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # a client that refused our certificate
                super().handle()

        def do_GET(self) -> None:
            if self.headers.get("Authorization") != expected:
                return self.answer(401, "text/plain", b"who are you?")
            if self.path not in pages:
                return self.answer(404, "text/plain", b"not here")
            self.answer(200, *pages[self.path])

        do_HEAD = do_GET

        def answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler


def make_certificates(folder: Path, subject: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """The CA's certificate, and key and certificate for the subject signed by it, made with openssl."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "rsa:2048", "-nodes")
    (folder / "leaf.ext").write_text(f"subjectAltName={subject}\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Private CA")
    openssl("req", *new_key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=127.0.0.1")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "leaf.ext")
    openssl("x509", "-req", "-in", "leaf.csr", "-out", "leaf.pem", *signing)
    chain = folder / "chain.pem"
    chain.write_text((folder / "leaf.key").read_text() + (folder / "leaf.pem").read_text())
    return folder / "ca.pem", chain


@dataclass
class Proxy:
    url: str
    asked_for: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def connect_proxy(ports_of: Mapping[str, int] = MappingProxyType({})) -> AsyncIterator[Proxy]:
    """Tunnels CONNECT requests and remembers their destinations. ports_of: hosts that are here in truth."""
    proxy = Proxy("")
    serving: set[asyncio.Task[None] | None] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        destination = head.split()[1].decode()
        proxy.asked_for.append(destination)
        host, _, port = destination.rpartition(":")
        here = ("127.0.0.1", ports_of[host]) if host in ports_of else (host, int(port))
        far_reader, far_writer = await asyncio.open_connection(*here)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
        if serving:  # they end with their clients, and before their loop does
            await asyncio.wait([task for task in serving if task], timeout=30)
