"""HEAD where GET is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.http.head import HeadAsGet


async def test_an_endless_body_is_refused_without_waiting() -> None:
    """The server says that the client is gone as soon as the answer is complete; nothing of the body is sent."""
    sent: list[Message] = []
    complete = asyncio.Event()
    methods = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"line"
            await asyncio.sleep(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        methods.append(scope["method"])
        await StreamingResponse(endless())(scope, receive, send)

    async def receive() -> Message:
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            complete.set()

    scope = {"type": "http", "method": "HEAD", "asgi": {"spec_version": "2.3"}}
    async with asyncio.timeout(20):
        await HeadAsGet(app)(scope, receive, send)
    assert methods == ["GET"]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert not sent[1].get("body")
