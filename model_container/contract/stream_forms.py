"""Forms of a stream of predictions: which form a client asks for, and how each form writes items, end and errors.

text/event-stream                           server-sent events: an id and an item each, then `end` or `error`
application/x-ndjson, application/jsonl     {"item": …} on each line, then {"end": …} or {"error": …}

This file imports only the standard library, because the gateway and every model's environment share it.
"""

from __future__ import annotations

from typing import Callable, Dict, Mapping, NamedTuple, Optional, Tuple

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers that keep proxies from holding items back and sending them all at once."""


class StreamForm(NamedTuple):
    """Form of a stream.

    item: encodes an item from its number and its JSON, which contains no line breaks. end, error: encode the last
    message from its JSON. alive: text without meaning that may be sent between two items to keep the connection open.
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
"""Forms by the media type that a client names."""


def generated_form(prefix: bytes) -> StreamForm:
    """Return the form of Triton's generate extension. prefix: the names in front of each item's members.

    Its clients know neither ids nor kinds of events: an error is recognized by its member, the end by the connection's
    end.
    """

    def item(_: int, body: bytes) -> bytes:
        return b"data: %b\n\n" % (prefix[:-1] + b"}" if body == b"{}" else prefix + body[1:])

    return EVENTS._replace(item=item, end=lambda _: b"", error=lambda body: b"data: %b\n\n" % body)


def form_asked_for(accept: str) -> Optional[StreamForm]:
    """Return the form that an Accept header names; None if it names none or prefers an ordinary answer."""
    weights = weights_of(accept)
    kind = max(FORMS, key=lambda name: weights.get(name, 0.0))
    weight = weights.get(kind, 0.0)
    return FORMS[kind] if weight > 0 and weight >= weights.get("application/json", 0.0) else None


def weights_of(accept: str) -> Dict[str, float]:
    """Return the weight of each entry of an Accept header or a similar one; 0 if refused. RFC 9110, section 12.4.2."""
    return dict(map(_weighed, accept.lower().split(",")))


def _weighed(part: str) -> Tuple[str, float]:
    kind, *parameters = (field.strip() for field in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return kind, float(value)
            except ValueError:
                return kind, 0.0
    return kind, 1.0
