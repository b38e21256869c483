"""The ngrok worker: pyngrok itself in a process of its own.

Without a network its download fails, which is tried as it is. For what lies behind that, the agent is a stand-in that
speaks the agent's log and API; ngrok's own service is not reached by any test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.errors import TunnelFailed
from app.runtime.process import tree as process_tree
from app.share.ngrok import NgrokTunnel
from app.share.tunnel import Connection, Worker
from tests.acceptance.server import wait_for
from tests.integration.ngrok_stand_in import write_agent
from tests.integration.sshd import END_SECONDS, alive

TOKEN = "2abc_a_token_that_must_not_be_seen"


class Lab:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "worker"
        self.report = folder / "report.json"
        self.agent_file = folder / "ngrok"
        self.workers: list[Worker] = []

    async def open(self, token: str = TOKEN, timeout_seconds: float = 20) -> Connection:
        tunnel = NgrokTunnel(token, self.folder, process_tree, start_timeout_seconds=timeout_seconds)
        return await tunnel.open(8123, self._note)

    def behave(self, behaviour: str) -> None:
        write_agent(self.agent_file, behaviour, self.report)

    async def _note(self, worker: Worker) -> None:
        self.workers.append(worker)

    @property
    def agent(self) -> dict[str, Any]:
        return dict(json.loads(self.report.read_text()))

    def all_gone(self) -> bool:
        pids = [int(worker.id.split(":")[0]) for worker in self.workers]
        pids += [self.agent["pid"]] if self.report.exists() else []
        return not any(alive(pid) for pid in pids)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Nothing of the user's own ngrok is used or changed."""
    monkeypatch.delenv("NGROK_AUTHTOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYNGROK_NGROK_PATH", raising=False)
    return Lab(tmp_path)


@pytest.fixture
def stand_in(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab.behave("works")
    monkeypatch.setenv("PYNGROK_NGROK_PATH", str(lab.agent_file))
    return lab


async def test_without_a_token_nothing_is_even_started(lab: Lab) -> None:
    with pytest.raises(TunnelFailed, match="NGROK_AUTHTOKEN is not set") as told:
        await lab.open(token=" ")
    assert told.value.reason == "no_token"
    assert "dashboard.ngrok.com" in told.value.hint
    assert lab.workers == []


async def test_a_download_that_cannot_reach_ngrok_is_reported_as_such(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy that is not there stands for the network that is shut, on machines that have one.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(TunnelFailed, match="ngrok cannot be reached from this machine: the download failed") as told:
        await lab.open()
    assert told.value.reason == "network_blocked"
    assert "PRISM_TUNNEL=ssh://" in told.value.hint
    wait_for(lab.all_gone, END_SECONDS, "the end of the worker")


async def test_an_unwritable_folder_is_not_reported_as_a_network_error(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab.folder.parent / "file").touch()
    monkeypatch.setenv("PYNGROK_NGROK_PATH", str(lab.folder.parent / "file" / "below" / "ngrok"))
    with pytest.raises(TunnelFailed) as told:
        await lab.open()
    assert told.value.reason == "not_installed"


async def test_a_tunnel_opens_and_ends_with_all_its_processes(stand_in: Lab) -> None:
    connection = await stand_in.open()
    assert connection.url == "https://stand-in.ngrok.app"
    wanted = json.loads(Path(f"{stand_in.report}.endpoint").read_text())
    assert wanted["upstream"]["url"] == "http://127.0.0.1:8123"
    assert not stand_in.all_gone()

    await connection.close()
    wait_for(stand_in.all_gone, END_SECONDS, "the end of worker and agent")


async def test_the_token_is_on_no_command_line_and_in_no_file_and_the_agent_has_it(stand_in: Lab) -> None:
    connection = await stand_in.open()
    assert stand_in.agent["has_token"]
    pids = [int(stand_in.workers[0].id.split(":")[0]), stand_in.agent["pid"]]
    lines = [" ".join(one.cmdline()) for pid in pids for one in process_tree.tree(psutil.Process(pid))]
    assert any("ngrok_worker" in line for line in lines)
    assert any("--log stdout" in line for line in lines)
    assert not any(TOKEN in line for line in lines)
    files = [file.read_text() for file in stand_in.folder.rglob("*") if file.is_file()]
    assert not any(TOKEN in text for text in files)
    assert stand_in.folder.stat().st_mode & 0o077 == 0
    await connection.close()


async def test_the_agent_keeps_no_copies_of_requests(stand_in: Lab) -> None:
    connection = await stand_in.open()
    arguments = stand_in.agent["arguments"]
    config = json.loads(Path(arguments[arguments.index("--config") + 1]).read_text())
    assert config["agent"]["inspect_db_size"] == -1
    assert config["agent"]["remote_management"] is False
    await connection.close()


@pytest.mark.parametrize(
    ("behaviour", "reason", "detail"),
    [
        ("refuses", "token_refused", "ngrok does not accept the token in NGROK_AUTHTOKEN: .* \\(ERR_NGROK_107\\)"),
        ("network", "network_blocked", "ngrok cannot be reached from this machine: failed to dial .* no such host"),
        ("limit", "account_limit", "The ngrok account's limit is reached: .* \\(ERR_NGROK_324\\)"),
    ],
)
async def test_each_failure_of_the_agent_has_its_own_message(
    stand_in: Lab, behaviour: str, reason: str, detail: str
) -> None:
    stand_in.behave(behaviour)
    with pytest.raises(TunnelFailed, match=detail) as told:
        await stand_in.open()
    assert told.value.reason == reason
    assert TOKEN not in json.dumps(told.value.problem())
    wait_for(stand_in.all_gone, END_SECONDS, "the end of worker and agent")


async def test_a_silent_agent_times_out_and_is_ended(stand_in: Lab) -> None:
    stand_in.behave("silent")
    with pytest.raises(TunnelFailed, match=r"was not ready within 2 s\.") as told:
        await stand_in.open(timeout_seconds=2)
    assert told.value.reason == "too_slow"
    assert "PRISM_TUNNEL_START_TIMEOUT" in told.value.hint
    wait_for(stand_in.all_gone, END_SECONDS, "the end of worker and agent")


async def test_a_suspended_worker_times_out_too(stand_in: Lab) -> None:
    stand_in.behave("silent")  # else it might be ready before it is stopped
    opening = asyncio.create_task(stand_in.open(timeout_seconds=5))
    while not stand_in.workers:
        await asyncio.sleep(0)
    os.kill(int(stand_in.workers[0].id.split(":")[0]), signal.SIGSTOP)
    with pytest.raises(TunnelFailed, match=r"was not ready within 5 s\."):
        await opening
    wait_for(stand_in.all_gone, END_SECONDS, "the end of worker and agent")


async def test_an_agent_that_ends_breaks_the_tunnel(stand_in: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await stand_in.open()
    os.kill(stand_in.agent["pid"], signal.SIGKILL)
    broken = await asyncio.wait_for(connection.broken(), 10)
    assert broken.reason == "ended"
    await connection.close()
    wait_for(stand_in.all_gone, END_SECONDS, "the end of worker and agent")


async def test_a_worker_that_is_killed_takes_its_agent_with_it(stand_in: Lab) -> None:
    connection = await stand_in.open()
    os.kill(int(stand_in.workers[0].id.split(":")[0]), signal.SIGKILL)
    await asyncio.wait_for(connection.broken(), 10)
    if sys.platform != "linux":  # there the kernel ends the agent with the worker, elsewhere the server does
        await connection.close()
    wait_for(stand_in.all_gone, END_SECONDS, "the end of worker and agent")
    await connection.close()
