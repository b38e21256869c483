"""Ends replicas, as the operating system or an operator would."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

import psutil

from tests.acceptance.server import Server


def own(replica: dict[str, Any], server: Server) -> list[psutil.Process]:
    """The processes of a replica."""
    parent = psutil.Process(replica["pid"])
    return [parent, *parent.children(recursive=True)]


def kill(replica: dict[str, Any], server: Server) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it is gone already
        for process in own(replica, server):
            with contextlib.suppress(psutil.NoSuchProcess):  # it went with its parent
                process.send_signal(signal.SIGKILL)
