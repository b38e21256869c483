"""A/B experiments in the SDK: the methods of both clients, and the objects that they return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from msgspec import Struct, field

from prism import rollouts
from prism.canaries import LOOK_SECONDS, Sends, SendsAsync
from prism.errors import InvalidRequest, NotFoundError
from prism.requests import Call, encode
from prism.responses import Answer, decode, record
from prism.rollouts import RolloutEvent

T = TypeVar("T")
ENDED = frozenset({"done", "failed"})


class Variant(Struct, frozen=True):
    """A version of an experiment. percentage: its share of the callers. keys: how many callers met it until now."""

    version: str = ""
    percentage: float = 0.0
    keys: int = 0


class Interval(Struct, frozen=True):
    """Difference to the control, and where it lies with 95 % confidence, however often it is looked at."""

    difference: float
    low: float
    high: float


class MetricVariant(Struct, frozen=True):
    """What a metric shows of one version. keys: callers with a value. interval: None for the control, or with too few."""

    version: str = ""
    keys: int = 0
    mean: float | None = None
    interval: Interval | None = None


class Metric(Struct, frozen=True):
    """outcome: "winner", "no winner yet", or that none is shown as the split is off. adjusted: by values from before."""

    outcome: str = ""
    winner: str | None = None
    adjusted: bool = False
    variants: list[MetricVariant] = []


class Results(Struct, frozen=True):
    """What an experiment shows. ratio_evidence: from 1,000, callers are not divided as they should be.

    metrics: by the name under which feedback reports them.
    """

    state: str = ""
    control: str = ""
    outcome: str = ""
    ratio_evidence: float = 1.0
    variants: list[Variant] = []
    metrics: dict[str, Metric] = {}
    document: dict[str, Any] = field(default_factory=dict)


class ExperimentRecord(Struct, frozen=True):
    """An experiment as the API describes it. state: pending, running, promoted, done or failed. reason: why."""

    id: str
    name: str = ""
    kind: str = ""
    state: str = ""
    reason: str | None = None
    variants: list[Variant] = []
    key: str = ""
    document: dict[str, Any] = field(default_factory=dict)


class Feedback(Struct, frozen=True):
    """A value that was recorded. experiment: its id. version: the one that the caller met."""

    experiment: str = ""
    version: str = ""
    metric: str = ""
    value: float = 0.0


class ExperimentState:
    """An experiment as it was when it was last looked at, in `record`."""

    def __init__(self, record: ExperimentRecord) -> None:
        self.record = record

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def state(self) -> str:
        """Return pending, running, promoted (stopped, the others are drained), done or failed."""
        return self.record.state

    @property
    def split(self) -> dict[str, float]:
        """Return the share of the callers in percent, by version number; the control comes first."""
        return {variant.version: variant.percentage for variant in self.record.variants}

    def __repr__(self) -> str:
        shares = ", ".join(f"{version}: {share:g} %" for version, share in self.split.items())
        return f"<{type(self).__name__} {self.name} {self.state} ({shares})>"


class Experiment(ExperimentState):
    """Experiment of a model, in a synchronous client."""

    def __init__(self, client: Sends, record: ExperimentRecord) -> None:
        super().__init__(record)
        self._client = client

    def refresh(self) -> Experiment:
        """Look at it again; returns itself."""
        self.record = self._client.send(current(self.id))
        return self

    def wait(self, timeout_seconds: float | None = None) -> Experiment:
        """Wait until its versions are ready and it runs, or it has failed, or the time is over; returns itself."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self.refresh().state == "pending" and (deadline is None or time.monotonic() < deadline):
            time.sleep(LOOK_SECONDS)
        return self

    def events(self, after: int = 0) -> list[RolloutEvent]:
        """Return what happened to it, in order. after: only events with a greater number."""
        return self._client.send(rollouts.events(self.id, after))

    def results(self, *, lower_is_better: bool = False) -> Results:
        """Return what it shows until now. lower_is_better: whether less of a metric is better."""
        return self._client.send(results(self.id, lower_is_better))

    def stop(self, winner: str | None = None) -> Experiment:
        """Give a version all requests; without one, the version that had them before. Returns itself."""
        self.record = self._client.send(stop(self.id, winner))
        return self


class AsyncExperiment(ExperimentState):
    """Experiment of a model, in an asynchronous client."""

    def __init__(self, client: SendsAsync, record: ExperimentRecord) -> None:
        super().__init__(record)
        self._client = client

    async def refresh(self) -> AsyncExperiment:
        """Look at it again; returns itself."""
        self.record = await self._client.send(current(self.id))
        return self

    async def wait(self, timeout_seconds: float | None = None) -> AsyncExperiment:
        """Wait until its versions are ready and it runs, or it has failed, or the time is over; returns itself."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (await self.refresh()).state == "pending" and (deadline is None or time.monotonic() < deadline):
            await asyncio.sleep(LOOK_SECONDS)
        return self

    async def events(self, after: int = 0) -> list[RolloutEvent]:
        """Return what happened to it, in order. after: only events with a greater number."""
        return await self._client.send(rollouts.events(self.id, after))

    async def results(self, *, lower_is_better: bool = False) -> Results:
        """Return what it shows until now. lower_is_better: whether less of a metric is better."""
        return await self._client.send(results(self.id, lower_is_better))

    async def stop(self, winner: str | None = None) -> AsyncExperiment:
        """Give a version all requests; without one, the version that had them before. Returns itself."""
        self.record = await self._client.send(stop(self.id, winner))
        return self


class ExperimentMethods:
    """The methods of the synchronous client."""

    def create_experiment(
        self: Sends,
        name: str,
        variants: Mapping[str, float],
        key: str | None = None,
        *,
        allow_signature_change: bool = False,
    ) -> Experiment:
        """Divide the callers of a model among versions; each keeps its version while the experiment runs.

        variants: weights by version number, in any unit. key: what callers are told apart by where `predict` gets no
        `key`: "query:user", a parameter of the URL, "body:user_id", a member of the JSON body, or None for the API key.
        """
        return Experiment(self, self.send(begin(name, variants, key, allow_signature_change)))

    def experiment(self: Sends, name: str) -> Experiment:
        """Return the experiment of a model that runs, otherwise its last one. Raises NotFoundError without one."""
        return Experiment(self, experiment_of(name, self.send(listed(name))))

    def feedback(
        self: Sends,
        metric: str,
        value: float,
        *,
        request_id: str | None = None,
        key: str | None = None,
        name: str | None = None,
        before: bool = False,
    ) -> Feedback:
        """Report a value for a running experiment: a sale, a complaint, 0 for none.

        request_id: of a prediction of the last minutes. key: of the caller, instead. name: of the model, needed with a
        key while several experiments run. before: the value is of the time before the experiment.
        """
        return self.send(feedback(metric, value, request_id, key, name, before))


class AsyncExperimentMethods:
    """The methods of the asynchronous client."""

    async def create_experiment(
        self: SendsAsync,
        name: str,
        variants: Mapping[str, float],
        key: str | None = None,
        *,
        allow_signature_change: bool = False,
    ) -> AsyncExperiment:
        """Divide the callers of a model among versions; see `Prism.create_experiment`."""
        return AsyncExperiment(self, await self.send(begin(name, variants, key, allow_signature_change)))

    async def experiment(self: SendsAsync, name: str) -> AsyncExperiment:
        """Return the experiment of a model that runs, otherwise its last one. Raises NotFoundError without one."""
        return AsyncExperiment(self, experiment_of(name, await self.send(listed(name))))

    async def feedback(
        self: SendsAsync,
        metric: str,
        value: float,
        *,
        request_id: str | None = None,
        key: str | None = None,
        name: str | None = None,
        before: bool = False,
    ) -> Feedback:
        """Report a value for a running experiment; see `Prism.feedback`."""
        return await self.send(feedback(metric, value, request_id, key, name, before))


def begin(
    name: str, variants: Mapping[str, float], key: str | None, allow_signature_change: bool
) -> Call[ExperimentRecord]:
    """Begin an experiment. Not retried: the second one would be refused."""
    given: dict[str, Any] = {"name": name, "variants": dict(variants)}
    given |= {} if key is None else {"key": key}
    given |= {"allow_signature_change": True} if allow_signature_change else {}
    return Call("POST", "/deployments/ab", experiment, body=encode(given), patience="deploy", repeatable=False)


def listed(name: str) -> Call[list[ExperimentRecord]]:
    """List the experiments of a model, the newest first."""
    return Call("GET", "/deployments", experiments, params={"name": name})


def current(experiment_id: str) -> Call[ExperimentRecord]:
    return Call("GET", _path(experiment_id), experiment)


def results(experiment_id: str, lower_is_better: bool) -> Call[Results]:
    params = {"lower_is_better": "true"} if lower_is_better else {}
    return Call("GET", f"{_path(experiment_id)}/results", shown, params=params)


def stop(experiment_id: str, winner: str | None) -> Call[ExperimentRecord]:
    """Stop an experiment. A repeated call answers the same."""
    body = encode({} if winner is None else {"winner": winner})
    return Call("POST", f"{_path(experiment_id)}/stop", experiment, body=body, patience="deploy")


def feedback(
    metric: str, value: float, request_id: str | None, key: str | None, name: str | None, before: bool
) -> Call[Feedback]:
    """Report a value. Not retried without a request id: it would count twice."""
    given = {"metric": metric, "value": value, "request_id": request_id, "key": key, "name": name}
    body = {field: item for field, item in given.items() if item is not None} | ({"before": True} if before else {})
    return Call("POST", "/feedback", recorded, body=encode(body), repeatable=request_id is not None)


def experiment_of(name: str, found: list[ExperimentRecord]) -> ExperimentRecord:
    """Return the one that is not over, otherwise the first. Raises NotFoundError for an empty list."""
    if not found:
        raise NotFoundError(
            f"`{name}` has no experiment.",
            hint=f"`prism ab start {name} --variant VERSION=50 --variant VERSION=50` begins one.",
            status=404,
            code="not_found",
        )
    return next((each for each in found if each.state not in ENDED), found[0])


def experiment(answer: Answer) -> ExperimentRecord:
    return record(ExperimentRecord, decode(answer))


def experiments(answer: Answer) -> list[ExperimentRecord]:
    documents = decode(answer).get("deployments", [])
    return [record(ExperimentRecord, each) for each in documents if each.get("kind") == "experiment"]


def shown(answer: Answer) -> Results:
    return record(Results, decode(answer))


def recorded(answer: Answer) -> Feedback:
    return record(Feedback, decode(answer))


def _path(experiment_id: str) -> str:
    if not experiment_id.strip("./ "):
        raise InvalidRequest(
            f"{experiment_id!r} is not the id of an experiment.", hint="`prism ab results NAME` shows it."
        )
    return f"/deployments/{quote(experiment_id, safe='')}"
