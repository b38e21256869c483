"""What one model, or one caller, does to the others: the latency of a healthy model while it is beset, beside its own
before."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

import httpx2

from prism.load import Result
from scripts.attacks.healthy import RATE, ask
from scripts.attacks.outcome import Outcome
from scripts.attacks.server import ADMIN_KEY, Attacked

AT_ONCE = 8
BEGIN_SECONDS = 2.0
"""In which the hostile callers come up."""

LIAR = b'''
import json, os, socket, stat, struct, threading, time


class Model:
    """Writes into the connection that its runtime has to the gateway: frames that nobody asked for."""

    def load(self):
        threading.Thread(target=self.lie, daemon=True).start()

    def lie(self):
        while True:
            for name in os.listdir("/proc/self/fd"):
                self.flood(int(name))
            time.sleep(0.05)

    def flood(self, number):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as connection:
                    connection.setblocking(False)
                    for kind in (4, 6, 2, 8):
                        connection.send(struct.pack("<IIBBH", 0, 1, kind, 0, 0) * 5000)
                    connection.send(struct.pack("<IIBBH", 1 << 30, 1, 4, 0, 1) + bytes(1 << 16))
        except OSError:
            pass

    def predict(self, rows):
        return [0 for _ in rows]
'''


def under_uploads(server: Attacked, hostile: bytes, seconds: float) -> Outcome:
    """Ask the healthy model while eight hostile files are uploaded at once, again and again. hostile: costs the reader much."""
    quiet = ask(server, seconds)
    with besetting(server, "/models/inspect", hostile, "model.joblib"):
        beset = ask(server, seconds)
    return compared(f"{AT_ONCE} hostile uploads at once, beside {RATE} requests/s", server, quiet, beset)


def under_a_liar(server: Attacked, seconds: float) -> Outcome:
    """Ask the healthy model while another's replica writes garbage into its connections."""
    quiet = ask(server, seconds)
    files = {"file": ("liar.zip", packed())}
    server.http.post("/models/upload-and-run", data={"model_name": "liar", "expected_input_json": "[[1]]"}, files=files)
    with besetting(server, "/models/liar/predict", b"[[1]]"):
        beset = ask(server, seconds)
    for model in server.http.get("/models").json()["models"]:
        if model["name"] == "liar":
            server.http.delete(f"/models/{model['model_id']}")
    return compared(f"a replica that floods its connection, beside {RATE} requests/s", server, quiet, beset)


def compared(attack: str, server: Attacked, quiet: Result, beset: Result) -> Outcome:
    before, after = (result.latency.percentile(99) * 1000 for result in (quiet, beset))
    figures = {
        "ms p99 before": f"{before:.1f}",
        "ms p99 meanwhile": f"{after:.1f}",
        "of it": f"{after / before:.2f}",
        "failed": str(beset.failed),
        "MiB of the gateway": str(server.memory_mb),
    }
    return Outcome(attack, figures, (f"{beset.failed} requests failed",) if beset.failed else ())


@contextmanager
def besetting(server: Attacked, path: str, content: bytes, file: str = "") -> Iterator[None]:
    """Eight callers, in a process of their own so that they do not slow the one who measures, until the block ends."""
    callers = get_context("spawn").Process(target=beset, args=(server.url, path, content, file), daemon=True)
    callers.start()
    time.sleep(BEGIN_SECONDS)
    try:
        yield
    finally:
        callers.terminate()
        callers.join()


def beset(url: str, path: str, content: bytes, file: str) -> None:
    """Post to one path without end, eight at a time, whatever is answered: a file if it has a name, else a body."""
    os.nice(19)  # as callers elsewhere, who take none of this machine's processor

    def repeat() -> None:
        with httpx2.Client(base_url=url, headers={"X-API-Key": ADMIN_KEY}, timeout=300, trust_env=False) as http:
            while True:
                if file:
                    http.post(path, files={"file": (file, content)})
                else:
                    http.post(path, content=content, headers={"Content-Type": "application/json"})

    threads = [threading.Thread(target=repeat) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def packed() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("liar/model.py", LIAR)
    return content.getvalue()
