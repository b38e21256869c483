"""V2 inference at the protocol door: it answers as the ASGI door does, and only what is plain is answered there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from model_container.contract import frames
from model_container.contract.frames import Answer as Predicted
from model_container.contract.frames import Request
from tests.unit.dispatch.doors import Gateway, ask, connected, gateway, request, same

INFER = "/v2/models/iris/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


async def told_apart(requests: list[Request]) -> list[Predicted]:
    """What came, as a V2 answer: its dialect, the length of its JSON and what stands behind that."""
    return [answered(one) for one in requests]


def answered(one: Request) -> Predicted:
    length = frames.JSON_LENGTH.unpack_from(one.body)[0]
    json, behind = one.body[4 : 4 + length], one.body[4 + length :]
    if json == b'"problem"':
        return Predicted(b'{"code":"bad_input","detail":"No such input.","hint":"Look."}', 422, frames.FORM_PROBLEM)
    if json == b'"nonsense"':
        return Predicted(b"nonsense", 200, frames.FORM_V2)
    document = b'{"outputs":[{"name":"o","data":[%d,%d,%d]}]}' % (one.dialect, len(json), len(behind))
    if json == b'"binary"':
        return Predicted(frames.JSON_LENGTH.pack(len(document)) + document + behind[::-1], 200, frames.FORM_V2_BINARY)
    return Predicted(document, 200, frames.FORM_V2)


@pytest.fixture(scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("doors"), told_apart, keys=["secret"]) as doors:
        yield doors


def infer(body: bytes = b'{"inputs":[]}', *lines: str, path: str = INFER, key: str = "secret") -> bytes:
    return request(body, f"X-API-Key: {key}", *lines, path=path)


CASES = {
    "JSON": infer(),
    "a version": infer(path="/v2/models/iris/versions/1.0.0/infer"),
    "a version that is not": infer(path="/v2/models/iris/versions/2.0.0/infer"),
    "a model that is not": infer(path="/v2/models/rose/infer"),
    "a tensor behind the JSON": infer(b'{"inputs":[]}\x00\x01\x02', f"{LENGTH}: 13"),
    "nothing but a tensor": infer(b"\x00\x01\x02", f"{LENGTH}: 0"),
    "a binary answer": infer(b'"binary"\x01\x02', f"{LENGTH}: 8"),
    "a JSON that is too long": infer(b"{}", f"{LENGTH}: 3"),
    "a length that is none": infer(b"{}", f"{LENGTH}: two"),
    "an empty length": infer(b"{}", f"{LENGTH}: "),
    "octets": infer(b"{}").replace(b"application/json", b"application/octet-stream"),
    "a form": infer(b"{}").replace(b"application/json", b"application/x-www-form-urlencoded"),
    "no body": infer(b""),
    "a problem": infer(b'"problem"'),
    "an answer that is none": infer(b'"nonsense"'),
    "a wrong key": infer(key="wrong"),
    "a request id of its own": infer(b"{}", "X-Request-ID: mine"),
    "compressed answers wanted": infer(b"{}", "Accept-Encoding: gzip"),
    "two lengths": infer(b"{}", f"{LENGTH}: 2", f"{LENGTH}: 2"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", CASES)
async def test_the_fast_path_and_asgi_give_the_same_answers(both: Gateway, case: str) -> None:
    same(await ask(both.protocol, CASES[case]), await ask(both.asgi, CASES[case]))


@pytest.mark.anyio
async def test_the_runtime_gets_the_length_of_the_json_in_front(both: Gateway) -> None:
    answer = await ask(both.protocol, CASES["a tensor behind the JSON"])
    assert b'"data":[%d,13,3]' % frames.DIALECT_V2_BINARY in answer.body
    answer = await ask(both.protocol, CASES["a binary answer"])
    length = int(answer.headers["inference-header-content-length"])
    assert answer.body[:length].endswith(b"}]}")
    assert answer.body[length:] == b"\x02\x01"


@pytest.mark.anyio
async def test_heads_are_cached_with_their_description_of_the_body(both: Gateway) -> None:
    both.door.forget()
    async with connected(both.protocol) as client:
        for body, length in ((b"{}\x00", 2), (b"{}\x01", 2), (b"\x00\x01\x02", 0)):
            await client.send(infer(body, f"{LENGTH}: {length}"))
            answer = await client.answer()
            assert b'"data":[%d,%d,%d]' % (frames.DIALECT_V2_BINARY, length, 3 - length) in answer.body
    assert [head.mark for head in both.door.heads.values()] == [b"\x02\0\0\0", b"\0\0\0\0"]


@pytest.mark.anyio
async def test_a_body_that_arrives_in_pieces_gets_its_prefix_once(both: Gateway) -> None:
    whole = CASES["a tensor behind the JSON"]
    async with connected(both.protocol) as client:
        for at in (len(whole) - 5, len(whole) - 16, 40):
            await client.send(whole[:at], whole[at:])
            assert b",13,3]" in (await client.answer()).body


@pytest.mark.anyio
@pytest.mark.parametrize("case", ["JSON", "a binary answer", "a problem", "a model that is not"])
async def test_plain_requests_never_reach_the_asgi_application(both: Gateway, case: str) -> None:
    both.door.forget()
    await ask(both.protocol, CASES[case])
    assert both.door.heads


@pytest.mark.anyio
async def test_clients_that_accept_compression_are_served_by_the_asgi_application(both: Gateway) -> None:
    both.door.forget()
    await ask(both.protocol, CASES["compressed answers wanted"])
    assert not both.door.heads
