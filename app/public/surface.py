"""The listener that a tunnel reaches: prediction, metadata and health of the shared models, and nothing else.

It has its own application, HTTP fast path and admission. So no path, method, header or encoding leads from it to the
admin surface: there is none.
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
from app.lifecycle.state import DeploymentState
from app.protocols.error_forms import ERROR_FORMS
from app.public.app import create_public_app, in_public

CALLERS = "public"
"""The name under which all callers without a key are counted: all of them have the tunnel's address."""


class PublicSurface:
    """The public listener. shared: names of the shared models, none at first; `share` and `unshare` change it.

    max_body_bytes … drain_timeout_seconds: as on the main listener.
    """

    def __init__(
        self,
        state: DeploymentState,
        dispatcher: Dispatcher,
        keys: Keys,
        *,
        max_body_bytes: int,
        receive_timeout_seconds: float,
        keep_alive_seconds: int,
        drain_timeout_seconds: float,
    ) -> None:
        self.shared: set[str] = set()
        self._state = state
        self._open_to_all = False
        admission = Admission(
            keys,
            must_have_key=lambda: not self._open_to_all,
            has_host=is_host,  # any host: it is the tunnel's name, which is not known in advance
            wrong_keys=FailedKeyThrottle(),  # its own: all callers have the tunnel's address, also the owner's
            serves=self.serves,
            anonymous=CALLERS,
            tell=in_public,
        )
        self._door = HeadCache(dispatcher, admission, ERROR_FORMS, max_body_bytes, receive_timeout_seconds)
        public_app = create_public_app(dispatcher, admission, state, self._is_well, max_body_bytes)
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
        """The port it listens on; None while it is closed."""
        return None if self._listener is None else self._listener.port

    def share(self, name: str) -> None:
        self.shared.add(name)

    def unshare(self, name: str) -> None:
        """Stop sharing a model from the next request on, even on open connections.

        A name that is not shared is no error.
        """
        self.shared.discard(name)
        self._door.forget()

    def serves(self, ref: str) -> bool:
        """Return whether `ref` is a shared name, such a name with a version, or the model_id of such a version."""
        model = self._state.model(ref)
        return (ref.partition("@")[0] if model is None else model.name) in self.shared

    async def open(self) -> int:
        """Listen on a free port of 127.0.0.1, unless it listens already; returns the port."""
        async with self._turn:
            if self._listener is None:
                self._listener = await _Listener.begin(self._config)
            return self._listener.port

    async def close(self) -> None:
        """Answer the requests under way, then stop listening."""
        async with self._turn:
            if self._listener is not None:
                listener, self._listener = self._listener, None
                await listener.end()

    def _is_well(self) -> bool:
        live = self._state.route_table().live
        return all(name in live for name in self.shared)


class _Listener:
    """A running uvicorn server, not run by uvicorn's `serve`, which would take the signals from the main server."""

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
            connection.transport.abort()  # its client did not read the answer in time
