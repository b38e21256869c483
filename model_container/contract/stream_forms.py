"""The forms in which predictions go out one by one: which of them a client asks for, and how each writes what it tells.

text/event-stream                           server-sent events: an id and an item each, then `end` or `error`
application/x-ndjson, application/jsonl     {"item": …} a line, then {"end": …} or {"error": …}

Imports only the standard library: the gateway and every model's environment share this file.
"""

from __future__ import annotations

from typing import Callable, Dict, Mapping, NamedTuple, Optional, Tuple

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""No proxy holds items back to send them in one go."""


class StreamForm(NamedTuple):
    """item: of its number and its JSON, which has no line ends of its own. end, error: of the JSON of what is told then.

    alive: what may stand between two items and means nothing.
    """

    media_type: str
    item: Callable[[int, bytes], bytes]
    end: Callable[[bytes], bytes]
    error: Callable[[bytes], bytes]
    alive: bytes = b""


EVENTS = StreamForm(
    "text/event-stream; charset=utf-8",
    item=lambda number, body: b"id: %d\ndata: %b\n\n" % (number, body),
    end=lambda body: b"event: end\ndata: %b\n\n" % body,
    error=lambda body: b"event: error\ndata: %b\n\n" % body,
    alive=b": alive\n\n",
)
LINES = StreamForm(
    "application/x-ndjson",
    item=lambda _, body: b'{"item":%b}\n' % body,
    end=lambda body: b'{"end":%b}\n' % body,
    error=lambda body: b'{"error":%b}\n' % body,
)
FORMS: Mapping[str, StreamForm] = {
    "text/event-stream": EVENTS,
    "application/x-ndjson": LINES,
    "application/jsonl": LINES._replace(media_type="application/jsonl"),
}
"""By the media type that a client names."""


def generated_form(prefix: bytes) -> StreamForm:
    """Of Triton's generate extension, whose clients know neither ids nor kinds of events: an error is told by its member,
    the end by the connection's. prefix: the names that stand in front of an item's members.
    """

    def item(_: int, body: bytes) -> bytes:
        return b"data: %b\n\n" % (prefix[:-1] + b"}" if body == b"{}" else prefix + body[1:])

    return EVENTS._replace(item=item, end=lambda _: b"", error=lambda body: b"data: %b\n\n" % body)


def form_asked_for(accept: str) -> Optional[StreamForm]:
    """The form that an Accept header names; None if it names none, or prefers an ordinary answer."""
    weights = weights_of(accept)
    kind = max(FORMS, key=lambda name: weights.get(name, 0.0))
    weight = weights.get(kind, 0.0)
    return FORMS[kind] if weight > 0 and weight >= weights.get("application/json", 0.0) else None


def weights_of(accept: str) -> Dict[str, float]:
    """Of what an Accept header, or one of its kin, names; 0 for what it refuses. RFC 9110, 12.4.2."""
    return dict(map(_weighed, accept.lower().split(",")))


def _weighed(part: str) -> Tuple[str, float]:
    kind, *parameters = (each.strip() for each in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return kind, float(value)
            except ValueError:
                return kind, 0.0
    return kind, 1.0
