"""The healthy model, as its callers know it while it is attacked."""

from __future__ import annotations

from prism.load import Result
from prism.load import run as load
from scripts.attacks.server import ADMIN_KEY, Attacked

RATE = 200
BODY = b'{"input": [5.1, 3.5, 1.4, 0.2]}'


def ask(server: Attacked, seconds: float, connections: int = 16) -> Result:
    """Ask the model `iris` for so long, at a constant rate; a request counts from when it was due."""
    url, headers = f"{server.url}/models/iris/predict", {"X-API-Key": ADMIN_KEY}
    return load(url, [BODY], connections=connections, seconds=seconds, rate=RATE, headers=headers, grace_seconds=30)
