"""Where PyTorch comes from on a machine that says nothing of it, through the real uv."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import ssl
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from app.core.environment import Requirements
from app.errors import EnvironmentFailed
from app.runtime.interpreter import own_interpreter
from app.runtime.packages.install import install
from app.runtime.packages.resolver import resolve
from tests.integration.package_index_lab import connect_proxy, forget_configuration, make_certificates

OWN = "{}.{}".format(*sys.version_info[:2])


@pytest.fixture
def closed_proxy() -> Iterator[str]:
    """An address at which nobody answers, for as long as the test lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


async def refusal(gpu: bool, *pythons: str) -> EnvironmentFailed:
    asked = Requirements(("torch",), (), pythons or (OWN,), "chosen by the test", gpu)
    with pytest.raises(EnvironmentFailed) as refused:
        await resolve(asked, log=lambda line: None, timeout_seconds=120)
    return refused.value


@pytest.mark.parametrize("gpu", [False, True])
async def test_pytorchs_index_is_named_if_it_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_proxy: str, gpu: bool
) -> None:
    forget_configuration(monkeypatch, tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", closed_proxy)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    error = await refusal(gpu, OWN, "3.12", "3.13")
    assert "https://download.pytorch.org/whl/" in error.detail
    assert "could not be looked up" in error.detail
    assert "UV_TORCH_BACKEND" in error.hint


async def test_a_configured_wheel_folder_takes_precedence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_proxy: str
) -> None:
    forget_configuration(monkeypatch, tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", closed_proxy)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    error = await refusal(gpu=False)
    assert "download.pytorch.org" not in error.detail
    assert "UV_TORCH_BACKEND" not in error.hint


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """Write a wheel with nothing in it."""
    info = f"{name}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{needed}"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


async def test_the_build_for_the_processor_is_taken_from_whatever_source_is_configured_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget_configuration(monkeypatch, tmp_path / "cache")
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheel(folder, "nvidia_cublas_cu12", "12.8")
    wheel(folder, "nvidia_cublas", "13.0")
    wheel(folder, "torch", "9.9.0", "nvidia-cublas-cu12")
    wheel(folder, "torch", "9.8.0+cu130", "nvidia-cublas")

    async def taken(gpu: bool = False, package: str = "torch") -> tuple[str, ...]:
        asked = Requirements((package,), (), (OWN, "3.12"), "chosen by the test", gpu)
        return (await resolve(asked, log=lambda line: None, timeout_seconds=120)).packages

    error = await refusal(False, OWN, "3.12")
    assert "PyTorch 9.9.0 for GPUs alone" in error.detail
    assert "3.12" not in error.detail, "it would be the same there"
    assert "UV_TORCH_BACKEND=cpu" in error.hint
    wheel(folder, "torch", "9.7.0+cpu")
    assert await taken() == ("torch==9.7.0+cpu",)
    assert "torch==9.9.0" in await taken(gpu=True)
    assert "torch==9.8.0+cu130" in await taken(package="torch==9.8.0+cu130")
    monkeypatch.setenv("UV_TORCH_BACKEND", "")
    assert "torch==9.9.0" in await taken()


async def test_torchvision_is_taken_for_the_processor_as_pytorch_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget_configuration(monkeypatch, tmp_path / "cache")
    folder, log = tmp_path / "wheels", list[str]()
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheel(folder, "torch", "9.7.0+cpu")
    wheel(folder, "torchvision", "1.1.0", "torch==9.7.0")

    async def taken(*packages: str) -> tuple[str, ...]:
        asked = Requirements(packages, (), (OWN,), "chosen by the test")
        return (await resolve(asked, log=log.append, timeout_seconds=120)).packages

    assert await taken("torch", "torchvision") == ("torch==9.7.0+cpu", "torchvision==1.1.0")
    assert "no build of torchvision for the processor was found" in log[-1]
    wheel(folder, "torchvision", "1.1.0+cpu", "torch==9.7.0")
    assert await taken("torchvision==1.1.0") == ("torch==9.7.0+cpu", "torchvision==1.1.0+cpu")


HOST = "download.pytorch.org"
VERSION = "9.9.0+cpu"
WHEEL = f"torch-{VERSION}-py3-none-any.whl"


@pytest.fixture
def pytorch_index(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The index of PyTorch's build for the processor, with one small wheel: its port, and the CA that vouches for it."""
    folder = tmp_path / "index"
    folder.mkdir()
    ca, chain = make_certificates(folder, f"DNS:{HOST}")
    info = f"torch-{VERSION}.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("torch/__init__.py", f"__version__ = {VERSION!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {VERSION}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{one},,\n" for one in (*archive.namelist(), f"{info}/RECORD")))
    page = f'<a href="/whl/cpu/{WHEEL.replace("+", "%2B")}">{WHEEL}</a>'.encode()
    pages = {
        "/whl/cpu/torch/": ("text/html", page),
        f"/whl/cpu/{WHEEL}": ("application/zip", (folder / WHEEL).read_bytes()),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = pages.get(unquote(self.path), ("", b""))
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                super().handle()

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1], ca
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing: install it")
async def test_the_cpu_build_is_resolved_and_installed_from_pytorchs_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pytorch_index: tuple[int, Path]
) -> None:
    port, ca = pytorch_index
    forget_configuration(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    asked = Requirements(("torch",), (), (OWN,), "chosen by the test")
    async with connect_proxy({HOST: port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        lock = await resolve(asked, log=lambda line: None, timeout_seconds=120, platform="linux")
        await install(lock, tmp_path / "packages", own_interpreter(), lambda line: None, 120)
    assert lock.packages == (f"torch=={VERSION}",)
    packages = tmp_path / "packages" / "lib" / f"python{lock.python}" / "site-packages"
    assert (packages / "torch" / "__init__.py").read_text() == f"__version__ = {VERSION!r}\n"
    assert set(proxy.asked_for) == {f"{HOST}:443"}
