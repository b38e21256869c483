"""Request traffic that also reports each new route table to the sharing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from app.core.model import Replica
from app.core.route import Route
from app.core.route_table import RouteTable


class Traffic(Protocol):
    """Interface of the request path that `app.lifecycle.publish` needs."""

    async def publish(self, table: RouteTable) -> None: ...

    def shift_traffic(self, name: str, route: Route) -> None: ...

    async def drained(self, replica: Replica, timeout_seconds: float) -> bool: ...

    def has_answered(self, replica: Replica) -> bool: ...


class FollowedTraffic:
    """Traffic that calls `follow` with each route table after it has been published."""

    def __init__(self, traffic: Traffic, follow: Callable[[RouteTable], Awaitable[None]]) -> None:
        self._traffic = traffic
        self._follow = follow
        self.shift_traffic = traffic.shift_traffic
        self.drained = traffic.drained
        self.has_answered = traffic.has_answered

    async def publish(self, table: RouteTable) -> None:
        await self._traffic.publish(table)
        await self._follow(table)
