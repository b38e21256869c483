"""Where a connection to a replica leads."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from msgspec import structs

from app.core.address import Address
from app.core.model import Replica
from app.dispatch.connection import connect
from app.errors import ReplicaUnavailable
from model_container.contract import frames

ELSEWHERE = "127.0.0.2"
"""A host that is not 127.0.0.1; on Linux it is this machine, too."""


async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1 << 16)
    writer.write(
        frames.encode(0, frames.WELCOME, json.dumps({"protocol": frames.PROTOCOL, "host": ELSEWHERE}).encode())
    )
    await reader.read()
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is no address of the machine")
async def test_a_replica_is_reached_at_the_host_and_port_of_its_address() -> None:
    async with await asyncio.start_server(welcome, ELSEWHERE, 0) as server:
        port = server.sockets[0].getsockname()[1]
        replica = Replica("m1", "node", "1:1", "token", "", Address(host=ELSEWHERE, port=port))
        link = await connect(replica, 20)
        assert link.welcome()["host"] == ELSEWHERE
        await link.wait_closed()
        here = structs.replace(replica, address=Address(host="127.0.0.1", port=port))
        with pytest.raises(ReplicaUnavailable):
            await connect(here, 20)


async def test_a_replica_without_an_address_is_unavailable() -> None:
    with pytest.raises(ReplicaUnavailable):
        await connect(Replica("m1", "node", "1:1", "token", "", Address()), 20)
