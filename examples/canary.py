"""Roll out the newest version of a model: a quarter of the requests first, then all of them.

    python examples/register.py
    python examples/canary.py

PRISM judges the new version's answers all the while. If they are bad, it is rolled back at once, and no caller sees it.
"""

from __future__ import annotations

import threading
from collections import Counter

from prism import Prism

NAME = "fraud-detector"
answered: Counter[str] = Counter()
is_over = threading.Event()


def send_requests() -> None:
    """Predict all the while, as users would."""
    with Prism() as client:
        while not is_over.is_set():
            answered[client.predict(NAME, inputs={"amount": 200, "merchant": "Acme"}).version] += 1


users = threading.Thread(target=send_requests)
users.start()
try:
    with Prism() as client:
        candidate = client.versions(NAME)[-1].version
        canary = client.create_canary(
            name=NAME,
            candidate_version=candidate,
            initial_percentage=25,
            auto_rollback_threshold=0.02,
            steps=[25, 100],
            bake_seconds=2,
        )
        print(canary)
        canary.wait(timeout_seconds=300)
        print(canary)
        for event in canary.events():
            print(f"{event.at[11:19]} {event.what}: {event.text}")
        print(f"answered: {dict(answered)}")

        canary = client.rollback_canary(NAME)  # the version before is still warm: this takes a moment, and no build
        print(canary)
finally:
    is_over.set()
    users.join()
