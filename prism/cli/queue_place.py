"""Polling for an upload's place in the inspection queue while the upload's own request has no answer yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prism import requests
from prism.client import Prism
from prism.errors import PrismError

LOOK_SECONDS = 0.5


@contextmanager
def told_place(client: Prism, request_id: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Poll for the place while the body runs; `tell` is called with each new message."""
    ended = threading.Event()
    looking = threading.Thread(target=_look, args=(client, request_id, tell, ended), daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join(client.timeouts.request_seconds)


def _look(client: Prism, request_id: str, tell: Callable[[str], None], ended: threading.Event) -> None:
    before = ""
    while not ended.wait(LOOK_SECONDS):
        try:
            inspections = client.send(requests.inspections())
        except PrismError:  # the server does not offer this, or the upload's own request will report the error
            return
        message = next(
            (
                str(inspection.get("message", ""))
                for inspection in inspections
                if inspection.get("request_id") == request_id
            ),
            "",
        )
        if message and message != before and not ended.is_set():
            tell(message)
        before = message
