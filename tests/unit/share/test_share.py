"""The states of the sharing, on a tunnel that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.model import Replica, Status
from app.core.route_table import Endpoint, NotServing, RouteTable
from app.errors import BadInput, Conflict, ConsentNeeded, TunnelFailed
from app.share.share import LONGEST_DELAY_SECONDS, delay_seconds
from app.share.tunnel import State
from tests.fakes import eventually
from tests.unit.share.fakes import BROKEN, Sharing

REFUSED = TunnelFailed("No.", reason="permission_denied", hint="Ask.")


@pytest.fixture
async def sharing(tmp_path: Path) -> AsyncIterator[Sharing]:
    one = Sharing(tmp_path)
    yield one
    await one.share.close()


def table(live: list[str], absent: list[str] | None = None) -> RouteTable:
    replica = Replica("m", "process", "1:1", "", "")
    return RouteTable(
        {name: Endpoint("m", name, "1.0.0", (replica,)) for name in live},
        {name: NotServing(name, Status.STOPPED, False) for name in absent or []},
    )


async def test_a_share_with_a_key_opens_the_surface_and_the_tunnel_and_tells_the_key_once(sharing: Sharing) -> None:
    key = await sharing.share.start(["iris"], create_key=True)

    assert key is not None
    assert (key.name, key.key) == ("share iris", "prism_secret")
    status = sharing.share.status
    assert (status.state, status.url, status.models, status.open_to_all) == (State.ON, "http://far:1", ("iris",), False)
    assert status.public_url("iris") == "http://far:1/models/iris/predict"
    assert status.public_url("other") is None
    assert sharing.tunnel.ports == [7000]
    assert (sharing.surface.is_open, sharing.surface.shared, sharing.surface.open_to_all) == (True, {"iris"}, False)


async def test_an_open_tunnel_is_recorded_and_a_closed_one_is_not(sharing: Sharing) -> None:
    await sharing.share.start(["iris"], open_to_all=True)
    recorded = json.loads(sharing.file.read_text())
    assert recorded["status"]["url"] == "http://far:1"
    assert recorded["worker"] == {"id": "1:2", "command": ["fake"]}
    assert sharing.file.stat().st_mode & 0o077 == 0

    await sharing.share.stop()
    assert not sharing.file.exists()


async def test_without_any_key_sharing_asks_for_consent_and_names_both_ways(sharing: Sharing) -> None:
    with pytest.raises(ConsentNeeded) as refused:
        await sharing.share.start(["iris"])

    assert "--create-key" in refused.value.hint
    assert "--open" in refused.value.hint
    assert refused.value.values["models"] == ["iris"]
    assert sharing.share.status.state is State.OFF
    assert not sharing.surface.is_open


async def test_with_an_existing_key_sharing_needs_neither_a_new_key_nor_consent(sharing: Sharing) -> None:
    sharing.keys.append("of the settings")
    assert await sharing.share.start(["iris"]) is None
    assert sharing.surface.open_to_all is False


async def test_a_key_and_no_key_cannot_be_asked_for_together(sharing: Sharing) -> None:
    with pytest.raises(BadInput):
        await sharing.share.start(["iris"], create_key=True, open_to_all=True)


async def test_one_tunnel_carries_several_models_and_closes_with_the_last(sharing: Sharing) -> None:
    await sharing.share.start(["iris"], create_key=True)
    await sharing.share.start(["wine"])
    assert len(sharing.tunnel.connections) == 1
    assert sharing.surface.shared == {"iris", "wine"}

    await sharing.share.stop("iris")
    assert sharing.share.status.models == ("wine",)
    assert sharing.share.status.public_url("iris") is None
    assert sharing.surface.shared == {"wine"}
    assert not sharing.tunnel.connections[0].closed

    await sharing.share.stop("wine")
    assert sharing.tunnel.connections[0].closed
    assert sharing.share.status.state is State.OFF
    assert sharing.surface.shared == set()
    assert not sharing.surface.is_open


async def test_a_later_share_with_keys_ends_open_access(sharing: Sharing) -> None:
    await sharing.share.start(["iris"], open_to_all=True)
    assert sharing.surface.open_to_all
    await sharing.share.start(["wine"], create_key=True)
    assert not sharing.surface.open_to_all
    assert not sharing.share.status.open_to_all


async def test_open_access_does_not_survive_reopening_the_link(sharing: Sharing) -> None:
    await sharing.share.start(["iris"], open_to_all=True)
    await sharing.share.stop()
    assert not sharing.surface.open_to_all


async def test_a_tunnel_that_does_not_open_leaves_nothing_but_the_reason_and_makes_no_key(sharing: Sharing) -> None:
    sharing.tunnel.outcomes = [REFUSED]
    with pytest.raises(TunnelFailed, match=r"No\."):
        await sharing.share.start(["iris"], create_key=True)

    status = sharing.share.status
    assert (status.state, status.models, status.url) == (State.FAILED, (), "")
    assert status.error is not None
    assert status.error["reason"] == "permission_denied"
    assert (sharing.surface.is_open, sharing.surface.shared, sharing.keys) == (False, set(), [])
    assert not sharing.file.exists()


async def test_after_a_failure_it_can_be_tried_again(sharing: Sharing) -> None:
    sharing.tunnel.outcomes = [REFUSED, "http://far:1"]
    with pytest.raises(TunnelFailed):
        await sharing.share.start(["iris"], open_to_all=True)
    await sharing.share.start(["iris"], open_to_all=True)
    assert sharing.share.status.state is State.ON
    assert sharing.share.status.error is None


async def test_a_failure_is_forgotten_when_the_sharing_is_stopped(sharing: Sharing) -> None:
    sharing.tunnel.outcomes = [REFUSED]
    with pytest.raises(TunnelFailed):
        await sharing.share.start(["iris"], open_to_all=True)
    await sharing.share.stop()
    assert sharing.share.status.state is State.OFF


async def test_a_broken_tunnel_is_opened_again_and_its_new_url_is_on_record(sharing: Sharing) -> None:
    await sharing.share.start(["iris"], open_to_all=True)
    sharing.tunnel.hold = asyncio.Event()
    sharing.tunnel.outcomes = ["http://far:2"]
    sharing.tunnel.connections[0].cut.set_result(BROKEN)

    await eventually(lambda: sharing.share.status.state is State.RECONNECTING)
    assert sharing.share.status.public_url("iris") is None
    assert sharing.share.status.error is not None
    assert sharing.share.status.error["detail"] == "The line was cut."

    sharing.tunnel.hold.set()
    await eventually(lambda: sharing.share.status.state is State.ON)
    assert sharing.share.status.public_url("iris") == "http://far:2/models/iris/predict"
    assert sharing.share.status.error is None
    await eventually(lambda: json.loads(sharing.file.read_text())["status"]["url"] == "http://far:2")
    assert sharing.tunnel.connections[0].closed


async def test_a_tunnel_that_was_open_once_is_retried_forever_with_growing_delays(sharing: Sharing) -> None:
    await sharing.share.start(["iris"], open_to_all=True)
    sharing.tunnel.outcomes = [REFUSED, REFUSED, REFUSED, "http://far:2"]
    sharing.tunnel.connections[0].cut.set_result(BROKEN)
    await eventually(lambda: sharing.share.status.url == "http://far:2")
    assert sharing.delays == [0, 1, 2, 3]


def test_retry_delays_grow_to_half_a_minute() -> None:
    waits = [delay_seconds(attempt) for attempt in range(8)]
    assert waits == [1, 2, 4, 8, 16, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS]
    assert delay_seconds(10_000) == LONGEST_DELAY_SECONDS


async def test_stopping_while_it_starts_ends_the_start_too(sharing: Sharing) -> None:
    sharing.tunnel.hold = asyncio.Event()
    starting = asyncio.create_task(sharing.share.start(["iris"], open_to_all=True))
    await eventually(lambda: sharing.share.status.state is State.STARTING and sharing.file.exists())
    await sharing.share.stop()
    with pytest.raises(Conflict, match="stopped before"):
        await starting
    assert sharing.share.status.state is State.OFF
    assert not sharing.file.exists()


async def test_a_cancelled_waiter_does_not_cancel_the_start(sharing: Sharing) -> None:
    sharing.tunnel.hold = asyncio.Event()
    starting = asyncio.create_task(sharing.share.start(["iris"], open_to_all=True))
    await eventually(lambda: sharing.share.status.state is State.STARTING)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    sharing.tunnel.hold.set()
    await eventually(lambda: sharing.share.status.state is State.ON)


async def test_an_unexpected_error_is_a_failure_as_any_other(sharing: Sharing) -> None:
    sharing.tunnel.outcomes = [OSError("too many open files")]
    with pytest.raises(TunnelFailed, match="too many open files"):
        await sharing.share.start(["iris"], open_to_all=True)
    assert sharing.share.status.state is State.FAILED


async def test_a_deleted_model_is_not_shared_any_more_and_a_stopped_one_is(sharing: Sharing) -> None:
    await sharing.share.start(["iris", "wine"], create_key=True)
    await sharing.share.follow(table(["wine"], absent=["iris"]))
    assert sharing.share.status.models == ("iris", "wine")
    await sharing.share.follow(table(["wine"]))
    assert sharing.share.status.models == ("wine",)
    assert sharing.surface.shared == {"wine"}
    await sharing.share.follow(table([]))
    assert sharing.share.status.state is State.OFF
    assert sharing.tunnel.connections[0].closed


async def test_new_models_are_shared_only_where_everything_is(sharing: Sharing) -> None:
    sharing.keys.append("of the settings")
    await sharing.share.start(["iris"])
    await sharing.share.follow(table(["iris", "wine"]))
    assert sharing.share.status.models == ("iris",)

    await sharing.share.share_everything(table(["iris", "wine"]))
    assert sharing.share.status.models == ("iris", "wine")


async def test_where_everything_is_shared_the_first_model_opens_the_tunnel(sharing: Sharing) -> None:
    sharing.keys.append("of the settings")
    await sharing.share.share_everything(table([]))
    assert sharing.share.status.state is State.OFF
    await sharing.share.follow(table(["iris"]))
    await eventually(lambda: sharing.share.status.state is State.ON)
    assert sharing.surface.shared == {"iris"}


async def test_a_model_that_was_withdrawn_stays_so_until_it_is_shared_by_name(sharing: Sharing) -> None:
    sharing.keys.append("of the settings")
    await sharing.share.share_everything(table(["iris", "wine"]))
    await sharing.share.stop("iris")
    await sharing.share.follow(table(["iris", "wine"]))
    assert sharing.share.status.models == ("wine",)
    await sharing.share.start(["iris"])
    await sharing.share.stop()
    await sharing.share.follow(table(["iris", "wine"]))
    assert sharing.share.status.state is State.OFF


async def test_sharing_all_models_needs_a_key_because_nobody_consented(sharing: Sharing) -> None:
    await sharing.share.share_everything(table(["iris"]))
    assert sharing.share.status.state is State.FAILED
    assert sharing.share.status.error is not None
    assert sharing.share.status.error["code"] == "consent_needed"
    assert sharing.tunnel.ports == []


async def test_consent_for_one_model_does_not_cover_the_next(sharing: Sharing) -> None:
    sharing.keys.append("of the settings")
    await sharing.share.share_everything(table([]))
    await sharing.share.start(["iris"], open_to_all=True)
    await sharing.share.follow(table(["iris", "wine"]))
    assert sharing.share.status.models == ("iris",)


async def test_stopping_the_server_ends_sharing(sharing: Sharing) -> None:
    await sharing.share.start(["iris"], open_to_all=True)
    await sharing.share.close()
    assert sharing.tunnel.connections[0].closed
    assert not sharing.surface.is_open
    assert not sharing.file.exists()
