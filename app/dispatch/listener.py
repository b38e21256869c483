"""How uvicorn listens, for every surface: with PRISM's protocol class, and without trusting forwarded addresses."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import uvicorn

from app.dispatch.head_cache import HeadCache
from app.dispatch.server import Connection


def listener_config(
    app: Any, door: HeadCache, lifespan: Literal["on", "off"], keep_alive_seconds: int, drain_timeout_seconds: float
) -> uvicorn.Config:
    """Return uvicorn's configuration. app: the ASGI application for requests that the fast path leaves to it."""
    return uvicorn.Config(
        app,
        http=cast(Any, partial(Connection, door)),
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # a client could forge a forwarded address to escape the rate limit
        server_header=False,
        timeout_keep_alive=keep_alive_seconds,
        timeout_graceful_shutdown=int(drain_timeout_seconds),
    )
