"""Reading of a stream of predictions, one JSON document per line. Both clients use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from prism.errors import ConnectionFailed, InvalidResponse, from_problem
from prism.requests import Call

ACCEPT = "application/x-ndjson"


class ItemReader:
    """Parser of a stream. has_begun: whether an item has arrived.

    end: the server's last message, {"model", "version", "items", …}.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self.end: dict[str, Any] | None = None
        self._rest: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the items completed by `data`. Raises the APIError that ended the stream, or InvalidResponse."""
        self._rest.append(data)
        if b"\n" not in data:
            return
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest = [rest]
        for line in lines:
            document = self._decoded(line)
            if "item" in document:
                self.has_begun = True
                yield document["item"]
            elif "error" in document:
                raise from_problem(document["error"])
            else:
                self.end = document.get("end")

    def check_end(self, base_url: str) -> None:
        """Check the stream after its last data. Raises ConnectionFailed if it is incomplete."""
        if self.end is None:
            raise ConnectionFailed(
                f"The connection to {base_url} was lost in the middle of the stream.",
                hint="`prism status` shows whether the server still runs.",
                sent=True,
            )

    def _decoded(self, line: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidResponse(
                f"A line of the stream is not a JSON object: {line[:80]!r}.",
                hint="Check that the URL is that of a PRISM server.",
            ) from error


def check_kind(content_type: str) -> None:
    """Raise InvalidResponse if the answer is not a stream."""
    if content_type.partition(";")[0].strip() != ACCEPT:
        raise InvalidResponse(
            f"The answer is {content_type or 'of no type'}, not the requested stream.",
            hint="Check that the SDK and the server have the same version.",
        )


def content_of(call: Call[Any]) -> dict[str, Any]:
    """Return the body as arguments of an HTTP client's `stream`, with the accepted media type."""
    with call.content() as content:
        return {**content, "headers": {**content.get("headers", {}), "Accept": ACCEPT}}
