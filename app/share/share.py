"""Sharing of models: which models others may call, and one tunnel for all of them, open until nothing is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

import structlog
from msgspec import structs

from app.core.os_errors import as_problem
from app.core.route_table import RouteTable
from app.errors import BadInput, Conflict, ConsentNeeded, PrismError, TunnelFailed
from app.share.record import ShareRecord
from app.share.tunnel import Connection, NewKey, PublicSurface, State, Status, Tunnel, Worker

log = structlog.get_logger(__name__)

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""Lifetime after which a tunnel counts as stable, so that the delays before reopening start again from the first."""
KEY_NAME_LENGTH = 100


def delay_seconds(attempt: int) -> float:
    """Return how long to wait before the tunnel is reopened for the `attempt`th time in a row, counted from 0."""
    return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(attempt, 16)))


class Share:
    """Sharing of this server's models. One tunnel carries every shared name; it closes when the last one is withdrawn.

    status: the current state. has_keys: whether any API key exists. create_key: makes a key with the given name.
    delay_seconds: as the function of that name in this file.
    """

    def __init__(
        self,
        tunnel: Tunnel,
        surface: PublicSurface,
        record: ShareRecord,
        has_keys: Callable[[], bool],
        create_key: Callable[[str], NewKey],
        delay_seconds: Callable[[int], float] = delay_seconds,
    ) -> None:
        self.status = Status(State.OFF, tunnel.kind)
        self._tunnel = tunnel
        self._surface = surface
        self._record = record
        self._has_keys = has_keys
        self._create_key = create_key
        self._delay_seconds = delay_seconds
        self._worker: Worker | None = None
        self._turn = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._everything = False
        self._withdrawn: set[str] = set()

    @property
    def has_keys(self) -> bool:
        return self._has_keys()

    def public_url(self, name: str) -> str | None:
        return self.status.public_url(name)

    async def start(
        self, names: Sequence[str], *, create_key: bool = False, open_to_all: bool = False
    ) -> NewKey | None:
        """Share these models too. Returns once the tunnel is open, with the key that was made for them.

        Raises ConsentNeeded if the models would be open to everyone and the caller did not agree to that, TunnelFailed
        if the tunnel cannot be opened, and Conflict if the sharing is stopped meanwhile.
        """
        if create_key and open_to_all:
            raise BadInput("A link has a key of its own or is open to all, not both.", hint="Ask for one of them.")
        async with self._turn:
            if not (create_key or open_to_all or self.has_keys):
                raise consent_needed(names)
            new = [name for name in names if name not in self.status.models]
            self._surface.open_to_all = open_to_all
            self._withdrawn -= set(names)
            opened = await self._add(names)
        try:
            await asyncio.shield(opened)
        except asyncio.CancelledError:
            if opened.cancelled():
                raise Conflict("Sharing was stopped before its tunnel was open.", hint="Share it again.") from None
            raise
        return await self._key_for(names, new) if create_key else None

    async def _key_for(self, names: Sequence[str], new: Sequence[str]) -> NewKey:
        """Make a key for these models. new: models to withdraw again if the key cannot be recorded. Raises OSError."""
        try:
            return self._create_key(f"share {', '.join(names)}"[:KEY_NAME_LENGTH])
        except OSError:
            for name in new:
                await self.stop(name)
            raise

    async def stop(self, name: str | None = None) -> None:
        """Withdraw one name, or all names. A name that is not shared is ignored."""
        async with self._turn:
            self._everything = self._everything and name is not None
            for ref in self.status.models if name is None else (name,):
                self._withdrawn.add(ref)
                self._surface.unshare(ref)
            await self._keep_only([ref for ref in self.status.models if ref not in self._withdrawn])

    async def share_everything(self, table: RouteTable) -> None:
        """Share every live model from now on, except those withdrawn by name."""
        self._everything = True
        await self.follow(table)

    async def follow(self, table: RouteTable) -> None:
        """Follow a new route table: withdraw deleted models, and share new ones after `share_everything`.

        A deleted model is withdrawn so that a later model of the same name is not public by accident.
        """
        async with self._turn:
            known = [name for name in self.status.models if name in table.live or name in table.absent]
            if len(known) < len(self.status.models):
                for name in set(self.status.models) - set(known):
                    self._surface.unshare(name)
                await self._keep_only(known)
            live = {endpoint.name for endpoint in table.live.values()}
            new = sorted(live - set(self.status.models) - self._withdrawn)
            if self._everything and new and self.status.state is not State.FAILED:
                await self._add_unasked(new)

    async def clear_up(self) -> None:
        """Close the tunnel that an earlier server left when it was killed."""
        await self._record.end_stale()

    async def close(self) -> None:
        """Close the tunnel because the server ends."""
        async with self._turn:
            await self._end(Status(State.OFF, self._tunnel.kind))

    async def _add_unasked(self, names: list[str]) -> None:
        """Share models after `share_everything`, but never through a link that is open to everyone.

        Whoever agreed to such a link agreed to other models.
        """
        if self.has_keys and not self._surface.open_to_all:
            await self._add(names)
            return
        error = consent_needed(names)
        log.warning("not shared, although ENABLE_TUNNEL is set", error=str(error))
        if self._keeper is None:
            self.status = Status(State.FAILED, self._tunnel.kind, error=error.problem())

    async def _add(self, names: Sequence[str]) -> asyncio.Future[None]:
        """Add names to the sharing and return a future that completes once the tunnel is open."""
        for name in names:
            self._surface.share(name)
        running = self._keeper is not None
        before = self.status if running else Status(State.STARTING, self._tunnel.kind, since=utc_now())
        models = tuple(dict.fromkeys((*before.models, *names)))
        self.status = structs.replace(before, models=models, open_to_all=self._surface.open_to_all)
        if self._opened is None or not running:
            self._opened = asyncio.get_running_loop().create_future()
            self._opened.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may have no reader
            self._keeper = asyncio.create_task(self._keep(self._opened))
        await self._record.write(self.status, self._worker)
        return self._opened

    async def _keep_only(self, names: Sequence[str]) -> None:
        if names or self._keeper is None:
            self.status = structs.replace(self.status, models=tuple(names))
            if self._keeper is not None:
                await self._record.write(self.status, self._worker)
        if not names and self.status.state is not State.OFF:
            await self._end(Status(State.OFF, self._tunnel.kind))

    async def _keep(self, opened: asyncio.Future[None]) -> None:
        """Keep the tunnel open until cancelled. Gives up only if the tunnel could not be opened the first time."""
        attempt = 0
        try:
            port = await self._surface.open()
            while True:
                try:
                    connection = await self._tunnel.open(port, self._note_worker)
                except TunnelFailed as error:
                    if not opened.done():
                        raise
                    await self._reconnecting(error)
                else:
                    began = monotonic()
                    await self._reconnecting(await self._stand(connection, opened))
                    attempt = 0 if monotonic() - began > STEADY_SECONDS else attempt
                await asyncio.sleep(self._delay_seconds(attempt))
                attempt += 1
        except PrismError as error:
            await self._give_up(error, opened)
        except Exception as error:
            problem = as_problem(error)
            if type(problem) is PrismError:
                log.exception("sharing failed unexpectedly")
                problem = TunnelFailed(problem.detail, reason="ended")
            await self._give_up(problem, opened)

    async def _stand(self, connection: Connection, opened: asyncio.Future[None]) -> TunnelFailed:
        """Serve an open tunnel until it breaks; returns the error that ended it."""
        try:
            if self.status.url not in ("", connection.url):
                log.warning("the link has changed", was=self.status.url, url=connection.url)
            await self._change(state=State.ON, url=connection.url, warning=connection.warning, error=None)
            log.info("shared", url=connection.url, models=self.status.models, kind=self._tunnel.kind)
            if not opened.done():
                opened.set_result(None)
            return await connection.broken()
        finally:
            await connection.close()

    async def _reconnecting(self, error: TunnelFailed) -> None:
        log.warning("the tunnel broke and is being reopened", reason=error.reason, error=error.detail)
        await self._change(state=State.RECONNECTING, error=error.problem())

    async def _note_worker(self, worker: Worker) -> None:
        self._worker = worker
        await self._record.write(self.status, worker)

    async def _change(self, **changes: object) -> None:
        self.status = structs.replace(self.status, **changes)
        await self._record.write(self.status, self._worker)

    async def _give_up(self, error: PrismError, opened: asyncio.Future[None]) -> None:
        async with self._turn:
            log.warning("nothing is shared", error=str(error))
            self._keeper = None
            await self._end(Status(State.FAILED, self._tunnel.kind, error=error.problem()))
            if not opened.done():
                opened.set_exception(error)

    async def _end(self, status: Status) -> None:
        """Close the tunnel and the public listener and remove the record; `status` becomes the new status."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
            if self._opened is not None:
                self._opened.cancel()
        for name in self.status.models:
            self._surface.unshare(name)
        await self._surface.close()
        self._surface.open_to_all = False
        self._worker = None
        self.status = status
        await self._record.clear()


def consent_needed(names: Sequence[str]) -> ConsentNeeded:
    return ConsentNeeded(
        f"Anyone with the link could use {', '.join(names)}, and nobody has consented to that.",
        hint="Create a key for it (`prism share start --create-key`), or let anyone with the link predict without one "
        "(`--open`).",
        models=list(names),
    )


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
