"""The listener that a tunnel reaches: predict, metadata and health of the models that are shared; nothing else.

It has an application, a protocol door and an admission of its own, so that no path, method, header or encoding leads
from it to the admin surface: that is not there.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from app.access.admission import Admission
from app.access.hosts import is_host
from app.access.keys import Keys
from app.access.throttle import FailedKeyThrottle
from app.dispatch.head_cache import HeadCache
from app.dispatch.listener import listener_config
from app.dispatch.pipeline import Dispatcher
from app.lifecycle.state import Ledger
from app.public.app import create_public_app, in_public

CALLERS = "public"
"""Under this name all callers without a key are counted: whoever comes through a tunnel has the tunnel's address."""


class PublicSurface:
    """shared: names of the models that are shared; `share` and `unshare` change it. It begins with none.

    max_body_bytes … drain_timeout_seconds: as on the main listener.
    """

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        keys: Keys,
        *,
        max_body_bytes: int,
        receive_timeout_seconds: float,
        keep_alive_seconds: int,
        drain_timeout_seconds: float,
    ) -> None:
        self.shared: set[str] = set()
        self._ledger = ledger
        self._open_to_all = False
        admission = Admission(
            keys,
            must_have_key=lambda: not self._open_to_all,
            has_host=is_host,  # whichever: it goes by the tunnel's name, which nobody knows before
            wrong_keys=FailedKeyThrottle(),  # its own: all its callers have the tunnel's address, which is also the owner's
            serves=self.serves,
            anonymous=CALLERS,
            tell=in_public,
        )
        self._door = HeadCache(dispatcher, admission, max_body_bytes, receive_timeout_seconds)
        public_app = create_public_app(dispatcher, admission, ledger, self._is_well, max_body_bytes)
        self._config = listener_config(public_app, self._door, "off", keep_alive_seconds, drain_timeout_seconds)
        self._turn = asyncio.Lock()
        self._listener: _Listener | None = None

    @property
    def open_to_all(self) -> bool:
        """Whether the shared models answer without a key."""
        return self._open_to_all

    @open_to_all.setter
    def open_to_all(self, consent: bool) -> None:
        self._open_to_all = consent
        self._door.forget()

    @property
    def port(self) -> int | None:
        """Where it listens; None while it is closed."""
        return None if self._listener is None else self._listener.port

    def share(self, name: str) -> None:
        self.shared.add(name)

    def unshare(self, name: str) -> None:
        """From the next request on, also on a connection that is open. A name that is not shared is no error."""
        self.shared.discard(name)
        self._door.forget()

    def serves(self, ref: str) -> bool:
        """Whether `ref` is a name that is shared, one with a version behind it, or the model_id of such a version."""
        model = self._ledger.model(ref)
        return (ref.partition("@")[0] if model is None else model.name) in self.shared

    async def open(self) -> int:
        """Listen on a free port of 127.0.0.1; returns it. Does nothing more when it is open already."""
        async with self._turn:
            if self._listener is None:
                self._listener = await _Listener.begin(self._config)
            return self._listener.port

    async def close(self) -> None:
        """Answer what is under way, and end."""
        async with self._turn:
            if self._listener is not None:
                listener, self._listener = self._listener, None
                await listener.end()

    def _is_well(self) -> bool:
        live = self._ledger.route_table().live
        return all(name in live for name in self.shared)


class _Listener:
    """A running uvicorn server. Not by its `serve`, which would take the signals from the main one."""

    def __init__(self, server: uvicorn.Server, socket: socket.socket) -> None:
        self.port: int = socket.getsockname()[1]
        self._server = server
        self._socket = socket
        self._running = asyncio.create_task(server.main_loop())

    @classmethod
    async def begin(cls, config: uvicorn.Config) -> _Listener:
        if not config.loaded:
            config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        listener = socket.create_server(("127.0.0.1", 0))
        try:
            await server.startup([listener])
        except BaseException:
            listener.close()
            raise
        return cls(server, listener)

    async def end(self) -> None:
        self._server.should_exit = True
        await self._running
        await self._server.shutdown([self._socket])
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # of who did not take the answer in the time there was
