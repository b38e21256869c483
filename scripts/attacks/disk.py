"""A full disk: what changes something is refused with the reason, and nothing that was acknowledged is forgotten."""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.attacks.outcome import Outcome
from scripts.attacks.server import Attacked

SIZE_MB = 64


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory of a bounded size; only root can mount one."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run(disk: Path, environments: Path, healthy: Path) -> Outcome:
    """Fill the server's disk, change all that can be changed, restart it, and look what it remembers."""
    statuses: Counter[int] = Counter()
    breaches = []
    with Attacked(disk / "home", "process", environments) as server:
        server.deploy(healthy, "iris")
        made = [server.http.post("/keys", json={"name": f"key {number}"}).json() for number in range(8)]
        ballast = disk / "ballast"
        fill(ballast)
        for key in made[:4]:
            statuses[server.http.delete(f"/keys/{key['id']}").status_code] += 1
        with healthy.open("rb") as content:
            answer = server.http.post(
                "/models/upload-and-run", data={"model_name": "late"}, files={"file": (healthy.name, content)}
            )
        statuses[answer.status_code] += 1
        statuses[server.http.post("/keys", json={"name": "late"}).status_code] += 1
        predicted = server.http.post("/models/iris/predict", json={"input": [5.1, 3.5, 1.4, 0.2]}).status_code
        if predicted != 200:
            breaches.append(f"a prediction on a full disk was answered {predicted}")
        ballast.unlink()
        server.stop()
        server.start()
        listed = {key["id"] for key in server.http.get("/keys").json()["keys"]}
        back = [key["id"] for key in made[:4] if key["id"] in listed]
        lost = [key["id"] for key in made[4:] if key["id"] not in listed]
    breaches += [f"a change on a full disk was answered {status}" for status in statuses if status == 500]
    breaches += [f"the revoked key {id} came back" for id in back] + [f"the key {id} was lost" for id in lost]
    figures = {f"answered {status}": str(count) for status, count in sorted(statuses.items())}
    return Outcome("a full disk", {**figures, "lost writes": str(len(back) + len(lost))}, tuple(breaches))


def fill(file: Path) -> None:
    """Take every byte that is left."""
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(size))
