"""`python -m app.share.ngrok_worker <server's pid> <port> <timeout in seconds> <folder>`: pyngrok outside the server.

pyngrok blocks, prints, and downloads an agent that it then runs; in its own process it cannot disturb the server. The
token comes in NGROK_AUTHTOKEN and is passed to the agent the same way: pyngrok would put it on the agent's command
line, where every user of the machine can read it. ngrok_errors.py describes the events. The worker and the agent end
with the server.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn
from urllib.error import URLError

from pyngrok import installer, ngrok, process
from pyngrok.conf import PyngrokConfig
from pyngrok.exception import PyngrokNgrokError, PyngrokNgrokHTTPError, PyngrokNgrokInstallError
from pyngrok.log import NgrokLog

from app.share import parent_guard
from app.share.ngrok_errors import NgrokRefusal, from_agent

NETWORK_TRIES = 3
"""Failures in a row after which the network counts as closed to the agent, which itself would retry for ever."""

# Keep no copies of requests, which carry API keys, for the agent's inspection page on this machine. Accept neither
# remote commands nor automatic updates.
AGENT = {"inspect_db_size": -1, "remote_management": False, "update_check": False, "console_ui": False}


class StartFailed(Exception):
    def __init__(self, refusal: NgrokRefusal) -> None:
        super().__init__(refusal.reason)
        self.told = refusal


class Worker:
    """Process that holds the tunnel.

    events: descriptor its event lines go to; pyngrok itself prints to standard output.
    """

    def __init__(self, port: int, timeout_seconds: float, folder: Path, events: int) -> None:
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._folder = folder
        self._events = events
        self._errors: list[NgrokRefusal] = []
        self._starting = True

    def run(self) -> NoReturn:
        deadline = threading.Timer(self._timeout_seconds, self._late)
        deadline.daemon = True
        deadline.start()
        try:
            config = self._config()
            url = ngrok.connect(f"http://127.0.0.1:{self._port}", pyngrok_config=config).public_url
        except StartFailed as error:
            self._end(error.told)
        except Exception as error:  # the server must get one line for any failure
            self._end(from_exception(error))
        self._starting = False
        deadline.cancel()
        self._tell({"url": url})
        process.get_process(config).proc.wait()
        self._end(self._errors[-1] if self._errors else NgrokRefusal("ended", "its agent stopped."))

    def _config(self) -> PyngrokConfig:
        """Configure the agent so that it ends with this process.

        The agent is installed where pyngrok keeps it, or taken from PYNGROK_NGROK_PATH.
        """
        settings = self._folder / "ngrok.yml"
        settings.write_text(json.dumps({"version": "3", "agent": AGENT}))
        config = PyngrokConfig(
            config_path=str(settings),
            startup_timeout=max(1, round(self._timeout_seconds)),
            log_event_callback=self._read,
        )
        if not Path(config.ngrok_path).exists():
            installer.install_ngrok(config.ngrok_path)
        config.ngrok_path = str(self._guarded(config.ngrok_path))
        config.auth_token = None  # the agent reads it from its environment
        return config

    def _guarded(self, agent: str) -> Path:
        """Write a script that runs the agent and ends it when this process ends."""
        program = self._folder / "ngrok-guarded"
        words = shlex.join([sys.executable, "-I", "-S", str(parent_guard.__file__)])
        program.write_text(f'#!/bin/sh\nexec {words} "$PPID" {shlex.quote(agent)} "$@"\n')
        program.chmod(0o700)
        return program

    def _read(self, line: NgrokLog) -> None:
        """Handle a line of the agent's log.

        pyngrok calls this; during the start it does so in the thread that waits for it.
        """
        if line.lvl not in ("ERROR", "CRITICAL") or not line.err:
            return
        refusal = from_agent(line.err)
        self._errors.append(refusal)
        tries = NETWORK_TRIES if refusal.reason == "network_blocked" else 1
        if self._starting and len(self._errors) >= tries and refusal.reason != "ended":
            raise StartFailed(refusal)

    def _late(self) -> None:
        late = NgrokRefusal("too_slow", f"{self._timeout_seconds:g} s")
        self._end(self._errors[-1] if self._errors else late)

    def _end(self, refusal: NgrokRefusal) -> NoReturn:
        """Report why the tunnel ended, then kill this process and the agent."""
        self._tell({"error": refusal.reason, "detail": refusal.said})
        parent_guard.end_group()

    def _tell(self, event: dict[str, str | None]) -> None:
        os.write(self._events, json.dumps(event).encode() + b"\n")


def from_exception(error: Exception) -> NgrokRefusal:
    """Classify an exception of pyngrok."""
    if isinstance(error, PyngrokNgrokInstallError):
        cause = error.__context__ or error
        if isinstance(cause, URLError | TimeoutError | ConnectionError | HTTPException):
            return NgrokRefusal("network_blocked", f"the download failed ({getattr(cause, 'reason', None) or cause}).")
        return NgrokRefusal("not_installed", f"{cause}.")
    if isinstance(error, PyngrokNgrokHTTPError):
        return from_agent(_innermost(error.body))
    if isinstance(error, PyngrokNgrokError):
        last = error.ngrok_logs[-1].line if error.ngrok_logs else str(error)
        return from_agent(error.ngrok_error or last)
    if isinstance(error, OSError):
        return NgrokRefusal("not_installed", f"{error}.")
    return NgrokRefusal("ended", f"{type(error).__name__}: {error}")


def _innermost(body: str) -> str:
    """Extract the message from an API error of the agent: {"error_code": 103, "msg": "…", "details": {"err": "…"}}."""
    match = re.search(r'"err"\s*:\s*"((?:[^"\\]|\\.)*)"', body) or re.search(r'"msg"\s*:\s*"((?:[^"\\]|\\.)*)"', body)
    return match[1] if match else body


def main(server: int, port: int, timeout_seconds: float, folder: Path) -> NoReturn:
    parent_guard.end_with(server)
    events = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    Worker(port, timeout_seconds, folder, events).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
