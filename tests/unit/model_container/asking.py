"""Ask a batcher as the gateway does, and read its answers as a client does."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from model_container.adapters.base import Adapter
from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.contract.frames import (
    FORM_BESIDE_IGNORED,
    OPTION_PROBABILITIES,
    OPTION_STRICT,
    Answer,
    Request,
    without_ignored,
)


class Reply(NamedTuple):
    """ignored: the columns that the model does not have."""

    status: int
    form: int
    json: Any
    ignored: tuple[str, ...] = ()


def batcher(model: object) -> Batcher:
    return Batcher(EstimatorAdapter(model))


def ask_all(target: Batcher, bodies: list[Any], probabilities: bool = False, strict: bool = False) -> list[Reply]:
    """One batch of all bodies; bytes go as they are, everything else as JSON."""
    options = (OPTION_PROBABILITIES if probabilities else 0) | (OPTION_STRICT if strict else 0)
    requests = [
        Request(body if isinstance(body, bytes) else json.dumps(body).encode(), options=options) for body in bodies
    ]
    answers, _, _ = target.run(requests)
    return [_reply(answer) for answer in answers]


def _reply(answer: Answer) -> Reply:
    if answer.form != FORM_BESIDE_IGNORED:
        return Reply(answer.status, answer.form, json.loads(answer.body))
    body, form, ignored = without_ignored(answer.body)
    return Reply(answer.status, form, json.loads(body), tuple(json.loads(ignored)))


def ask(target: Batcher | Adapter, body: Any, probabilities: bool = False, strict: bool = False) -> Reply:
    target = target if isinstance(target, Batcher) else Batcher(target)
    return ask_all(target, [body], probabilities, strict)[0]


def predictions(target: Batcher | Adapter, body: Any) -> Any:
    reply = ask(target, body)
    assert reply.status == 200, reply
    return reply.json["predictions"]
