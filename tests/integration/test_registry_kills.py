"""The registry under a writer that is killed in the middle, again and again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from app.registry.containers import ContainersFile

WRITER = """
import asyncio, sys
from pathlib import Path
from app.core.model import Deployment, Status
from app.registry.containers import ContainersFile

async def main():
    registry = ContainersFile(Path(sys.argv[1]))
    assert registry.load(), "corrupt"
    number = int(sys.argv[2])
    while True:
        await registry.save(Deployment(f"m{number}", "x" * 200, "1.0.0", Status.LIVE, True))
        print(number, flush=True)  # acknowledged: from now on it must never be lost
        number += 1

asyncio.run(main())
"""


def test_fifty_kills_lose_no_acknowledged_write_and_leave_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "containers.json"
    acknowledged = -1
    for kill in range(50):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(acknowledged + 1)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(1 + kill % 7):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        if rest:
            acknowledged = int(rest[-1])
        registry = ContainersFile(path)
        assert registry.load() is True
        names = {one.model_id for one in registry.all()}
        assert names >= {f"m{number}" for number in range(acknowledged + 1)}
    assert list(tmp_path.glob("*.corrupt-*")) == []
