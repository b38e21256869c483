"""The bounds on the flow of requests to a model."""

from __future__ import annotations

from msgspec import Struct, structs

from app.core.route_table import Endpoint
from app.dispatch.connection import WIRE_LIMITS, WireLimits


class QueueSettings(Struct, frozen=True):
    """The bounds of every lane, from the settings.

    log_timings: log the timings of each request, which costs more than its answer. wire: bounds on what a replica may
    send.
    """

    max_batch_size: int
    queue_length: int
    window_seconds: float
    timeout_seconds: float
    heartbeat_timeout_seconds: float
    log_timings: bool = False
    max_streams: int = 32
    wire: WireLimits = WIRE_LIMITS


def queue_settings_for(endpoint: Endpoint, flow: QueueSettings) -> QueueSettings:
    """Return the bounds of one endpoint: the model's own where its owner set any, otherwise those of the settings."""
    own = endpoint.bounds
    return structs.replace(
        flow,
        max_batch_size=own.max_batch_size or flow.max_batch_size,
        queue_length=own.queue_length or flow.queue_length,
        window_seconds=flow.window_seconds if own.batch_window_ms is None else own.batch_window_ms / 1000,
        timeout_seconds=own.predict_timeout_seconds or flow.timeout_seconds,
    )
