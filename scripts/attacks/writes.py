"""Kills of the gateway in the middle of what it writes: no key that it acknowledged may be lost, none revoked come back."""

from __future__ import annotations

import random
import signal
import threading

import httpx2

from scripts.attacks.outcome import Outcome
from scripts.attacks.server import ADMIN_KEY, Attacked

SEED = 9


class Writer(threading.Thread):
    """Makes and revokes keys as fast as it can, and keeps which of both was acknowledged, until the server is gone."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._number = number
        self.made: dict[str, str] = {}
        self.revoked: dict[str, str] = {}
        self.unsure: set[str] = set()

    def run(self) -> None:
        with httpx2.Client(base_url=self._url, headers={"X-API-Key": ADMIN_KEY}, trust_env=False) as http:
            try:
                while True:
                    self._write(http)
            except httpx2.TransportError:
                return

    def _write(self, http: httpx2.Client) -> None:
        made = http.post("/keys", json={"name": f"key {self._number} {len(self.made)}"})
        if made.status_code == 429:
            return
        document = made.raise_for_status().json()
        self.made[document["id"]] = document["key"]
        if len(self.made) % 2:
            self.unsure.add(document["id"])
            http.delete(f"/keys/{document['id']}").raise_for_status()
            self.unsure.discard(document["id"])
            self.revoked[document["id"]] = self.made.pop(document["id"])


def run(server: Attacked, kills: int) -> Outcome:
    """Kill and restart that often, and ask after each acknowledged key once in the end."""
    chance = random.Random(SEED)
    made: dict[str, str] = {}
    revoked: dict[str, str] = {}
    for number in range(kills):
        writer = Writer(server.url, number)
        writer.start()
        writer.join(chance.uniform(0.05, 0.6))
        server.stop(signal.SIGKILL)
        writer.join()
        made.update({id: key for id, key in writer.made.items() if id not in writer.unsure})
        revoked.update(writer.revoked)
        server.start()
    listed = {entry["id"] for entry in server.http.get("/keys").json()["keys"]}
    lost = [id for id, key in made.items() if id not in listed or not opens(server, key)]
    back = [id for id in revoked if id in listed]
    figures = {
        "keys made and revoked": str(len(made) + len(revoked)),
        "lost writes": str(len(lost) + len(back)),
    }
    breaches = tuple(f"the key {id} was lost" for id in lost) + tuple(f"the revoked key {id} came back" for id in back)
    return Outcome(f"{kills} × kill -9 of the gateway while it writes", figures, breaches)


def opens(server: Attacked, key: str) -> bool:
    answer = httpx2.get(f"{server.url}/models", headers={"X-API-Key": key}, trust_env=False)
    return answer.status_code == 200
