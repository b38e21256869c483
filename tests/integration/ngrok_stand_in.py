#!/usr/bin/env python3
"""A stand-in for the ngrok agent: its arguments, its log format and its API on loopback; no tunnel and no ngrok.

STAND_IN, which its script sets, says how it behaves: "works", "refuses" the token, finds no "network", stays "silent", or "dies" when told to.
STAND_IN_REPORT: a file that it writes its arguments, its pid and whether it was given a token to.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NETWORK = 'failed to dial ngrok server with address \\"connect.ngrok-agent.com:443\\": dial tcp: lookup: no such host'


def write_agent(agent: Path, behaviour: str, report: Path) -> None:
    """The program to be taken for ngrok. What it is to do is in it: the server hands on no variable unknown to it."""
    command = shlex.join(["env", f"STAND_IN={behaviour}", f"STAND_IN_REPORT={report}", sys.executable, __file__])
    agent.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    agent.chmod(0o700)


def log(message: str, level: str = "info", **fields: str) -> None:
    told = " ".join(f'{name}="{value}"' for name, value in fields.items())
    print(f't=2026-01-01T00:00:00+0000 lvl={level} msg="{message}" {told}', flush=True)


class Agent(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200, {"endpoints": []})

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(os.environ["STAND_IN_REPORT"] + ".endpoint", "w") as file:
            json.dump(wanted, file)
        if os.environ["STAND_IN"] == "limit":
            error = "Your account may not run more than 3 endpoints.\n\nERR_NGROK_324"
            self.answer(502, {"error_code": 103, "status_code": 502, "msg": "failed", "details": {"err": error}})
            return
        self.answer(201, {"name": wanted["name"], "url": "https://stand-in.ngrok.app", "upstream": wanted["upstream"]})
        if os.environ["STAND_IN"] == "dies":
            os._exit(1)


def main() -> None:
    token = os.environ.get("NGROK_AUTHTOKEN", "")
    report = os.environ["STAND_IN_REPORT"]
    with open(f"{report}.new", "w") as file:
        json.dump({"arguments": sys.argv[1:], "pid": os.getpid(), "has_token": bool(token)}, file)
    os.replace(f"{report}.new", report)  # whole, whoever ends this and whenever
    behaviour = os.environ["STAND_IN"]
    if behaviour == "silent":
        time.sleep(1000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    log("starting web service", obj="web", addr=f"127.0.0.1:{server.server_address[1]}")
    if behaviour == "refuses":
        error = f"authentication failed: The authtoken you specified is properly formed, but it is invalid.\\nYour authtoken: {token}\\n\\nERR_NGROK_107\\n"
        log("failed to reconnect session", "eror", obj="tunnels.session", err=error)
        time.sleep(1000)
    while behaviour == "network":
        log("failed to reconnect session", "eror", obj="tunnels.session", err=NETWORK)
        time.sleep(0.05)
    log("client session established", obj="tunnels.session")
    log("tunnel session started", obj="tunnels.session")
    server.serve_forever()


if __name__ == "__main__":
    main()
