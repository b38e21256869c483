"""What a model answers is shown only if it is an answer."""

from __future__ import annotations

import pytest

from app.dispatch.request import Prediction
from app.errors import PrismError, ReplicaProtocolError, TooLarge
from app.ui.routes.predict import SHOWN_BYTES_MAX, document_of


def answer(body: bytes) -> Prediction:
    return Prediction(200, body, "application/json", {})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", ReplicaProtocolError),
        (b'{"a":' * 5000, ReplicaProtocolError),
        (b'{"a":"\xff"}', ReplicaProtocolError),
        (b'{"predictions":5}', ReplicaProtocolError),
        (b'{"predictions":[1],"probabilities":"x"}', ReplicaProtocolError),
        (b"{" + b" " * SHOWN_BYTES_MAX + b"}", TooLarge),
    ],
    ids=["no JSON", "deep", "no UTF-8", "a number", "a text", "large"],
)
def test_a_malformed_answer_is_shown_as_a_problem(body: bytes, kind: type[PrismError]) -> None:
    with pytest.raises(kind):
        document_of(answer(body))


def test_an_answer_is_read_whole() -> None:
    assert document_of(answer(b'{"predictions":[1],"classes":null}')) == {"predictions": [1], "classes": None}
