"""The SSH tunnel, through a real OpenSSH server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from app.core.ssh_address import SshAddress, ssh_address
from app.errors import TunnelFailed
from app.runtime.process import tree as process_tree
from app.share.ssh import SshTunnel, unreached
from app.share.tunnel import Connection, Worker
from tests.acceptance.server import CHECKOUT, free_port, wait_for
from tests.integration.sshd import END_SECONDS, Sshd, make_key, ssh_clients

pytestmark = pytest.mark.sshd


class Hello(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        """Answer with the request's id, as PRISM does."""
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.send_header("X-Request-ID", self.headers.get("X-Request-ID", ""))
        self.end_headers()
        self.wfile.write(b"hello")


@pytest.fixture
def port() -> Iterator[int]:
    """Yield the port of a small web server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd(tmp_path)
    server.start()
    yield server
    server.stop()


async def open_tunnel(sshd: Sshd, port: int, address: str = "", seconds: float = 15) -> Connection:
    tunnel = SshTunnel(
        ssh_address(address or sshd.address),
        process_tree,
        start_timeout_seconds=seconds,
        identity=sshd.identity,
        known_hosts=sshd.known_hosts,
    )
    return await tunnel.open(port, note)


async def note(worker: Worker) -> None:
    pass


def get(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


async def test_the_host_forwards_a_port_of_its_choice(sshd: Sshd, port: int) -> None:
    connection = await open_tunnel(sshd, port)
    assert await asyncio.to_thread(get, connection.url) == b"hello"
    assert connection.warning == ""

    await connection.close()
    wait_for(lambda: not ssh_clients(sshd.port), END_SECONDS, "the end of ssh and its leash")
    wait_for(lambda: not sshd.connections(), END_SECONDS, "the end of the connection at the host")
    with pytest.raises(OSError, match="refused"):
        get(connection.url)


async def test_a_requested_port_is_forwarded(sshd: Sshd, port: int) -> None:
    remote_port = free_port()
    connection = await open_tunnel(sshd, port, f"{sshd.address}?remote_port={remote_port}")
    assert connection.url == f"http://127.0.0.1:{remote_port}"
    assert await asyncio.to_thread(get, connection.url) == b"hello"
    await connection.close()


async def test_an_unreachable_url_is_reported_with_the_hosts_settings(sshd: Sshd, closed_port: int) -> None:
    connection = await open_tunnel(sshd, closed_port)
    assert "GatewayPorts" in connection.warning
    await connection.close()


async def test_an_unknown_host_key_is_not_accepted(sshd: Sshd, port: int) -> None:
    sshd.known_hosts.write_text("")
    with pytest.raises(TunnelFailed, match="is not trusted yet") as told:
        await open_tunnel(sshd, port)
    assert told.value.reason == "host_key_unknown"
    assert f"ssh -p {sshd.port} {sshd.user}@127.0.0.1" in told.value.hint
    assert sshd.known_hosts.read_text() == ""


async def test_another_host_key_than_the_known_one_is_not_accepted(sshd: Sshd, port: int, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    sshd.trust(tmp_path / "other.pub")
    with pytest.raises(TunnelFailed) as told:
        await open_tunnel(sshd, port)
    assert told.value.reason == "host_key_changed"
    assert "ssh-keygen -R" in told.value.hint


async def test_a_key_that_the_host_does_not_know_is_permission_denied(sshd: Sshd, port: int) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    with pytest.raises(TunnelFailed) as told:
        await open_tunnel(sshd, port)
    assert told.value.reason == "permission_denied"
    assert "PRISM_TUNNEL_SSH_IDENTITY" in told.value.hint


@pytest.mark.parametrize("option", ["AllowTcpForwarding no", "PermitListen 1", "DisableForwarding yes"])
async def test_refused_forwarding_and_refused_login_are_distinguished(tmp_path: Path, port: int, option: str) -> None:
    sshd = Sshd(tmp_path, option)
    sshd.start()
    try:
        with pytest.raises(TunnelFailed) as told:
            await open_tunnel(sshd, port)
    finally:
        sshd.stop()
    assert told.value.reason == "forwarding_refused"
    assert "AllowTcpForwarding" in told.value.hint


async def test_a_port_that_another_program_of_the_host_has_is_refused(sshd: Sshd, port: int) -> None:
    """In both families: one alone is enough for sshd to grant it."""
    with ExitStack() as others:
        remote_port = others.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        with suppress(OSError):  # a machine may have no IPv6
            others.enter_context(socket.create_server(("::1", remote_port), family=socket.AF_INET6))
        with pytest.raises(TunnelFailed) as told:
            await open_tunnel(sshd, port, f"{sshd.address}?remote_port={remote_port}")
    assert told.value.reason == "forwarding_refused"
    assert f"port {remote_port}" in told.value.detail


async def test_another_program_at_the_url_is_not_mistaken_for_prism() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        url = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}"
        assert "no other program has that port" in await unreached(url)


async def test_a_refused_connection_and_an_unknown_host_are_distinguished(
    sshd: Sshd, port: int, closed_port: int
) -> None:
    with pytest.raises(TunnelFailed) as told:
        await open_tunnel(sshd, port, f"ssh://127.0.0.1:{closed_port}")
    assert told.value.reason == "connection_refused"
    with pytest.raises(TunnelFailed) as told:
        await open_tunnel(sshd, port, "ssh://no-such-host.invalid")
    assert told.value.reason == "unresolvable"


async def test_a_silent_host_times_out_and_leaves_nothing(sshd: Sshd, port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = silent.getsockname()[1]
        with pytest.raises(TunnelFailed, match=r"did not open the tunnel within 0\.5 s") as told:
            await open_tunnel(sshd, port, f"ssh://127.0.0.1:{silent_port}", seconds=0.5)
        assert told.value.reason == "too_slow"
        wait_for(lambda: not ssh_clients(silent_port), END_SECONDS, "the end of ssh and its leash")


async def test_a_missing_ssh_is_reported_with_what_to_install(
    sshd: Sshd, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TunnelFailed) as told:
        await open_tunnel(sshd, port)
    assert told.value.reason == "ssh_missing"
    assert "openssh-client" in told.value.hint


async def test_a_key_file_that_is_not_there_is_named(sshd: Sshd, port: int) -> None:
    sshd.identity.unlink()
    with pytest.raises(TunnelFailed, match="user_key cannot be read") as told:
        await open_tunnel(sshd, port)
    assert told.value.reason == "file_missing"


async def test_a_lost_connection_is_noticed_and_reported(sshd: Sshd, port: int) -> None:
    connection = await open_tunnel(sshd, port)
    sshd.cut()
    broken = await asyncio.wait_for(connection.broken(), 10)
    assert broken.reason == "ended"
    assert "The SSH connection to" in broken.detail
    await connection.close()


async def test_ssh_does_not_see_prisms_secrets(sshd: Sshd, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NGROK_AUTHTOKEN", "PRISM_API_KEYS", "PRISM_ADMIN_KEYS"):
        monkeypatch.setenv(name, "secret")
    connection = await open_tunnel(sshd, port)
    clients = ssh_clients(sshd.port)
    assert len(clients) == 2  # ssh, and the leash around it
    for client in clients:
        assert "secret" not in client.environ().values()
        assert "PATH" in client.environ()
    await connection.close()


def test_host_and_user_are_the_last_arguments_and_never_options() -> None:
    tunnel = SshTunnel(SshAddress("example.org", "ada", 2222, 80), process_tree, start_timeout_seconds=30)
    arguments = tunnel.arguments(8000)
    assert arguments[-4:] == ["-R", "*:80:127.0.0.1:8000", "--", "ada@example.org"]
    assert "StrictHostKeyChecking=yes" in arguments
    assert "BatchMode=yes" in arguments
    assert "ControlMaster=no" in arguments


HOLDER = """
import asyncio, sys
from pathlib import Path
from app.core.ssh_address import ssh_address
from app.runtime.process import tree as process_tree
from app.share.ssh import SshTunnel

async def note(worker):
    pass

async def hold():
    tunnel = SshTunnel(ssh_address(sys.argv[1]), process_tree, start_timeout_seconds=15,
                       identity=Path(sys.argv[2]), known_hosts=Path(sys.argv[3]))
    connection = await tunnel.open(int(sys.argv[4]), note)
    print(connection.url, flush=True)
    await connection.broken()

asyncio.run(hold())
"""


def test_a_server_that_is_killed_leaves_no_ssh(sshd: Sshd, port: int) -> None:
    words = [sshd.address, str(sshd.identity), str(sshd.known_hosts), str(port)]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *words], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert get(holder.stdout.readline().strip()) == b"hello"
        assert len(ssh_clients(sshd.port)) == 2
        os.kill(holder.pid, signal.SIGKILL)
        wait_for(lambda: not ssh_clients(sshd.port), END_SECONDS, "the end of ssh and its leash")
