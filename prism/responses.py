"""Responses of the API as frozen records, and the parsers that create them.

Unknown fields are ignored and missing ones take their default, so that an older SDK can read a newer server's answers.
`document` keeps the whole answer unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from prism.errors import APIError, InvalidResponse, from_problem

SETTLED = frozenset({"built", "live", "unhealthy", "stopped", "failed"})
"""Statuses in which a deployment does not wait for anything."""


class Answer(Struct, frozen=True):
    """HTTP response, whichever client received it. headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")


class Artifact(Struct, frozen=True):
    filename: str = ""
    sha256: str = ""
    size_bytes: int = 0


class Tensor(Struct, frozen=True):
    """Input or output. shape: −1 is a variable dimension. choices: values that a categorical column was trained on."""

    name: str = ""
    datatype: str = ""
    shape: list[int] = []
    choices: list[Any] = []


class Signature(Struct, frozen=True):
    kind: str = ""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    named: bool = False
    methods: list[str] = []
    classes: list[Any] = []


class Pin(Struct, frozen=True):
    """Package that the model needs, and why PRISM believes so."""

    distribution: str = ""
    specifier: str = ""
    evidence: str = ""


class Environment(Struct, frozen=True):
    """Environment of a model. packages: `name==version` of everything installed.

    pins: what the model itself requires.
    """

    python: str = ""
    python_evidence: str = ""
    hash: str = ""
    packages: list[str] = []
    pins: list[Pin] = []


class Replica(Struct, frozen=True):
    """Running copy of a model. number: its position among the replicas, which its successor inherits.

    circuit: "closed" while requests reach it. memory_bytes, cores: its resource usage, if the server reports it.
    """

    target: str = ""
    id: str = ""
    number: int = 1
    pid: int = 0
    circuit: str | None = None
    memory_bytes: int | None = None
    cores: float | None = None
    port: int | None = None
    socket: str | None = None
    image: str | None = None
    started_at: str | None = None


class Restart(Struct, frozen=True):
    at: str = ""
    reason: str = ""
    lines: list[str] = []


class Model(Struct, frozen=True):
    """Version of a model and its status.

    status: received, inspecting, resolving, building, built, starting, probing, live, unhealthy, stopped, failed.
    wanted: whether it is asked to run. superseded: whether it failed or stopped while a newer version of its name serves.
    replicas: the running replicas. replicas_wanted: how many should run while it is live; None from an older server
    that runs only one. keep: whether models of other names keep running beside it. stops: models of other names that it
    stops once it is live, or has stopped when it became live. parent: number of the version that it was made from.
    created_by: who made it. metadata: what its owner says of it. framework: what it was made with. traffic: "all", or "none"
    while it runs beside the version that answers, or "auto" until it is live. endpoint: absolute URL that takes predictions. public_url: the same URL reachable from anywhere,
    while the model is shared. sample: a request body that the model is known to answer. error: the problem document of
    what failed. timings_ms: how long each step took.
    """

    model_id: str
    name: str = ""
    version: str = ""
    ref: str = ""
    status: str = ""
    wanted: bool | None = None
    superseded: bool = False
    description: str | None = None
    target: str | None = None
    endpoint: str | None = None
    public_url: str | None = None
    created_at: str | None = None
    created_by: str | None = None
    parent: str | None = None
    metadata: dict[str, Any] = {}
    framework: str = ""
    traffic: str = "all"
    live_at: str | None = None
    artifact: Artifact | None = None
    signature: Signature | None = None
    sample: Any = None
    environment: Environment | None = None
    inspection: dict[str, Any] | None = None
    replica: Replica | None = None
    replicas: list[Replica] = []
    replicas_wanted: int | None = None
    keep: bool = False
    stops: list[str] = []
    restarts: list[Restart] = []
    error: dict[str, Any] | None = None
    timings_ms: dict[str, float] = {}
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        return self.status in SETTLED

    def failure(self) -> APIError | None:
        """Return the error of a failed model as an exception; None if it has not failed."""
        if self.status != "failed":
            return None
        problem = {"code": "deploy_failed", "detail": f"{self.ref or self.model_id} failed.", **(self.error or {})}
        return from_problem({"model_id": self.model_id, **problem}, status=422)


class Version(Struct, frozen=True):
    """Version of a model in its lineage. share: of the requests for the name, from 0 to 1. Others as in `Model`."""

    version: str
    model_id: str = ""
    ref: str = ""
    status: str = ""
    traffic: str = "all"
    share: float = 0.0
    parent: str | None = None
    created_at: str = ""
    created_by: str | None = None
    live_at: str | None = None
    description: str = ""
    metadata: dict[str, Any] = {}
    framework: str = ""
    sha256: str = ""
    size_bytes: int = 0
    document: dict[str, Any] = field(default_factory=dict)


class Change(Struct, frozen=True):
    """Fact before and after; None: one version does not have it."""

    name: str
    before: Any = None
    after: Any = None


class Difference(Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """Differences of two versions. before, after: their numbers.

    breaks: why requests that the first answers would be refused by the second. packages: by name, with their exact
    versions. speedup: how many times as fast the accelerated variant is, by rows of a call, where it was measured.
    """

    name: str
    before: str
    after: str
    same_artifact: bool
    size_bytes: Change
    python: Change
    inputs: list[Change] = []
    outputs: list[Change] = []
    breaks: list[str] = []
    packages: list[Change] = []
    metrics: list[Change] = []
    speedup: list[Change] = []
    document: dict[str, Any] = field(default_factory=dict)


class Replacement(Struct, frozen=True):
    """What an upload or a start would replace once it is live. name, version: those that it would have.

    replaces: versions of its own name. stops: models of other names. kept: whether those keep running beside it.
    """

    name: str
    version: str = ""
    replaces: list[str] = []
    stops: list[str] = []
    kept: bool = False
    document: dict[str, Any] = field(default_factory=dict)


class Prediction(Struct, frozen=True):
    """Answer with one prediction per row. timings_ms: durations in the Server-Timing header, by name."""

    model: str
    version: str
    model_id: str
    predictions: list[Any]
    probabilities: list[Any] | None = None
    classes: list[Any] | None = None
    request_id: str = ""
    timings_ms: dict[str, float] = {}
    document: dict[str, Any] = field(default_factory=dict)


class Health(Struct, frozen=True):
    """Health of a server. status: "ok", or "degraded" while a model in `down` was live, should be live, and takes no
    traffic, or a target in `unavailable`, such as docker, is needed and does not answer.

    models: number of models in each status. down: model ids. failed: model_id and error code of each model that failed
    before it was ever live; these do not degrade the status. Neither has versions that were dismissed or superseded.
    """

    status: str
    version: str = ""
    models: dict[str, Any] = {}
    down: list[str] = []
    unavailable: list[str] = []
    failed: list[dict[str, str]] = []
    document: dict[str, Any] = field(default_factory=dict)


class SharedModel(Struct, frozen=True):
    """Shared model. public_url: takes predictions from anywhere; None while the link is not open."""

    name: str
    public_url: str | None = None


class ShareKey(Struct, frozen=True):
    """API key that was made for a share; `key` is shown only this once."""

    id: str = ""
    name: str = ""
    key: str = ""


class Share(Struct, frozen=True):
    """Sharing of a server's models.

    state: off, starting, on, reconnecting or failed. kind: of the tunnel, ngrok or ssh. open: whether anyone with the
    link needs no key. warning: what may keep others from the link. error: the problem document of what failed.
    """

    state: str
    kind: str = ""
    url: str | None = None
    models: list[SharedModel] = []
    open: bool = False
    since: str | None = None
    warning: str | None = None
    error: dict[str, Any] | None = None
    key: ShareKey | None = None
    document: dict[str, Any] = field(default_factory=dict)


class Revocation(Struct, frozen=True):
    """Revocation of a key. saved: false while it is not on the server's disk. hint: what to do then."""

    revoked: str = ""
    saved: bool = True
    hint: str = ""
    document: dict[str, Any] = field(default_factory=dict)


class ApiKey(Struct, frozen=True):
    """API key made while the server runs. key: the key itself, present only when it is made.

    hint: its last characters.
    """

    id: str
    name: str = ""
    created_at: str = ""
    hint: str = ""
    key: str | None = None
    document: dict[str, Any] = field(default_factory=dict)


T = TypeVar("T", bound=Struct)


def decode(answer: Answer) -> dict[str, Any]:
    """Return the JSON object in an answer. Raises InvalidResponse."""
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = answer.headers.get("content-type", "no content type")
        raise InvalidResponse(
            f"The answer (status {answer.status}, {kind}) is not a JSON object.",
            hint="Check that the URL is that of a PRISM server.",
        ) from error


def record(kind: type[T], document: Mapping[str, Any], **more: Any) -> T:
    """Convert a JSON object to a record. Raises InvalidResponse naming the field that does not fit."""
    try:
        return msgspec.convert({**document, **more, "document": dict(document)}, kind)
    except msgspec.ValidationError as error:
        raise InvalidResponse(
            f"The answer is not a {kind.__name__.lower()} that this SDK understands: {error}.",
            hint="Check that the URL is that of a PRISM server, and that the SDK and the server have the same version.",
        ) from error


def model(answer: Answer) -> Model:
    return record(Model, decode(answer))


def models(answer: Answer) -> list[Model]:
    return [record(Model, document) for document in items(answer, "models")]


def versions(answer: Answer) -> list[Version]:
    return [record(Version, document) for document in items(answer, "versions")]


def difference(answer: Answer) -> Difference:
    return record(Difference, decode(answer))


def prediction(answer: Answer) -> Prediction:
    timings = server_timing(answer.headers.get("server-timing", ""))
    return record(Prediction, decode(answer), request_id=answer.request_id, timings_ms=timings)


def health(answer: Answer) -> Health:
    return record(Health, decode(answer))


def replacement(answer: Answer) -> Replacement:
    return record(Replacement, decode(answer))


def share(answer: Answer) -> Share:
    return record(Share, decode(answer))


def api_key(answer: Answer) -> ApiKey:
    return record(ApiKey, decode(answer))


def api_keys(answer: Answer) -> list[ApiKey]:
    return [record(ApiKey, document) for document in items(answer, "keys")]


def revocation(answer: Answer) -> Revocation:
    return record(Revocation, decode(answer))


def removed(answer: Answer) -> list[str]:
    return [str(item) for item in items(answer, "removed")]


def pruned(answer: Answer) -> list[str]:
    return [str(item) for item in items(answer, "pruned")]


def inspections(answer: Answer) -> list[dict[str, Any]]:
    return items(answer, "inspections")


def entries(answer: Answer) -> list[dict[str, Any]]:
    return [dict(entry) for entry in items(answer, "entries")]


def lines(answer: Answer) -> list[str]:
    return answer.body.decode(errors="replace").splitlines()


def failure(answer: Answer) -> APIError:
    """Return the error of an answer whose status is not 2xx, even if a proxy in between wrote it as HTML."""
    try:
        document = decode(answer)
    except InvalidResponse:
        document = {"title": f"The server answered with status {answer.status}."}
    if 300 <= answer.status < 400:
        document = {"detail": f"The server redirects to {answer.headers.get('location', '?')}. Use that address."}
    return from_problem(
        document,
        status=answer.status,
        request_id=answer.request_id,
        retry_after_seconds=retry_after_seconds(answer.headers.get("retry-after", "")),
    )


def retry_after_seconds(value: str, now: float | None = None) -> float | None:
    """Parse Retry-After to seconds from `now` (Unix time): RFC 9110 §10.2.3 allows a number or a date."""
    if not value:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now))
    return None


def server_timing(value: str) -> dict[str, float]:
    """Parse Server-Timing: `queue;dur=0.2, inference;dur=3.1` → {"queue": 0.2, "inference": 3.1}.

    Entries without a number are left out.
    """
    timings: dict[str, float] = {}
    for entry in value.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, number = parameter.partition("=")
            if key.lower() == "dur":
                with suppress(ValueError):
                    timings[name] = float(number)
    return timings


def items(answer: Answer, name: str) -> list[Any]:
    items = decode(answer).get(name)
    if not isinstance(items, list):
        raise InvalidResponse(f"The answer has no list `{name}`.", hint="Check that the URL is that of a PRISM server.")
    return items
