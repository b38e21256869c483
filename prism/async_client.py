"""Asynchronous client, for asyncio. `requests.py` defines what is sent, `responses.py` what is received."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx2

from prism import connection, requests
from prism.canaries import AsyncCanaryMethods
from prism.errors import APIError, ConnectionFailed, PrismError, RateLimitedError
from prism.experiments import AsyncExperimentMethods
from prism.following import LogFollower
from prism.requests import POLL_SECONDS, Call, DeployOptions, File, LogKind, OnStatus, Timeouts, Traffic, VersionOptions
from prism.responses import ApiKey, Difference, Health, Model, Prediction, Replacement, Share, Version
from prism.retries import Retries
from prism.shadows import AsyncShadowMethods
from prism.streaming import ItemReader, check_kind, content_of
from prism.tables.answer import FilePrediction, TableAnswer
from prism.tables.records import Batch
from prism.tables.run import IN_FLIGHT, OnRows, table_run, wait_seconds

T = TypeVar("T")


class AsyncPrism(AsyncCanaryMethods, AsyncShadowMethods, AsyncExperimentMethods):
    """Client for one PRISM server. Use it as a context manager, or `await close()` it.

    base_url: defaults to PRISM_URL, then to http://127.0.0.1:8000. api_key: defaults to PRISM_API_KEY, then to none.
    max_retries: number of retries after a lost connection, 408, 429, 502 or 503, waiting as Retry-After asks; an upload
    that may have arrived is never sent again. transport: another way to carry requests, for tests.

    Every method raises the errors of `prism.errors`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int = 2,
        backoff_seconds: float = 0.5,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        settings = connection.client_settings(base_url, api_key, self.timeouts)
        self.base_url: str = settings["base_url"]
        self.models = AsyncModels(self)
        self.keys = AsyncKeys(self)
        self._retries = Retries(max_retries, backoff_seconds)
        self._http = httpx2.AsyncClient(**settings, transport=transport)

    async def deploy(
        self, model: File | Any, *, on_status: OnStatus | None = None, **options: Unpack[DeployOptions]
    ) -> Model:
        """Upload a model, wait until it is live, and return it.

        model: a file, an archive or a folder, or a trained model from memory, which is sent with the source of what this
        session and modules of your own define for it.
        on_status is called with each new state. The file is streamed from disk (each 64 KiB block is read on the event
        loop: microseconds from a local disk). Raises the problem's own error if PRISM refuses the file, and
        DeployFailedError if a later step fails.
        """
        return await self._settle(requests.deploy(model, **options), on_status)

    async def upload(
        self, model: File | Any, *, on_status: OnStatus | None = None, **options: Unpack[DeployOptions]
    ) -> Model:
        """Upload a model like `deploy`, but only store and build it; `models.start` makes it live."""
        return await self._settle(requests.upload(model, **options), on_status)

    async def register_model(
        self,
        name: str,
        model_object: Any = None,
        *,
        path: File | None = None,
        framework: str | None = None,
        on_status: OnStatus | None = None,
        **options: Unpack[VersionOptions],
    ) -> Model:
        """Register a version, wait until it is live, and return it: the next major one, 1.0.0 for a new name.

        Beside a live version of the name it takes no requests until `models.start` or a rollout gives it some.

        model_object: a trained model from memory. path: its file, instead. framework: "sklearn", "xgboost", "lightgbm",
        "catboost", "torch" or "onnx", checked against the model; None to have it read. options: `version`, `metadata` and
        others as for `deploy`.
        """
        return await self._settle(requests.register(name, model_object, path, framework, **options), on_status)

    async def predict(
        self, ref: str, data: Any = None, *, inputs: Any = None, probabilities: bool = False, key: str | None = None
    ) -> Prediction:
        """Predict.

        data, or inputs: any body that PRISM's dialects allow, a DataFrame or an array; the path of a file; an image or
        a WAV file as bytes, an image as Pillow holds it, or a list of files, each of which is a row. Other bytes are
        sent unchanged as JSON. key: by which an experiment tells callers apart; None for the API key.
        """
        call = requests.predict(ref, requests.one_input(data, inputs), probabilities=probabilities, key=key)
        return await self.send(call)

    async def predict_batch(
        self, ref: str, inputs: Sequence[Any], *, probabilities: bool = False, key: str | None = None
    ) -> Prediction:
        """Predict many rows at once. inputs: the rows, each an object by column or a list of values."""
        return await self.send(requests.predict_rows(ref, inputs, probabilities=probabilities, key=key))

    async def versions(self, name: str) -> list[Version]:
        """Return the versions of a model, the oldest first."""
        return await self.send(requests.versions(name))

    async def diff(self, name: str, before: str | None = None, after: str | None = None) -> Difference:
        """Compare two versions of a model; without them, the one that answers and the one that it was made from."""
        return await self.send(requests.diff(name, before, after))

    async def rollback(self, name: str, to: str | None = None) -> Model:
        """Make a version live again, as `models.rollback` does. to: its number; None: the one live before."""
        return await self.models.rollback(name, to)

    async def stream(self, ref: str, data: Any, *, probabilities: bool = False) -> AsyncGenerator[Any, None]:
        """Yield the model's predictions as it makes them. A model that does not yield gives one item per row.

        data, probabilities: as for `predict`. The request is sent when the first item is requested, and is retried only
        before that item has arrived. If the model fails later, its error is raised then. Closing the generator (as
        `aclosing` does) ends the stream.
        """
        call, attempt = requests.predict(ref, data, probabilities=probabilities), 0
        while True:
            reader = ItemReader()
            try:
                async with aclosing(self._items(call, reader)) as items:
                    async for item in items:
                        yield item
                return
            except (APIError, ConnectionFailed) as failure:
                delay = None if reader.has_begun else self._retries.delay_seconds(call, failure, attempt)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def predict_file(
        self,
        ref: str,
        file: File,
        output: File,
        *,
        probabilities: bool = False,
        resume: bool = False,
        on_rows: OnRows | None = None,
    ) -> FilePrediction:
        """Predict each row of a CSV or Parquet file, and write the rows with the results beside them to `output`.

        The file is read, sent and written in batches, so it may have any size (each batch is read and written on the
        event loop: milliseconds on a local disk). `output` appears when it is complete; until then the results are in
        `output`.part, and resume=True goes on with that part. A file object is written to as results come. on_rows is
        called after each batch. Raises FileStopped, which names the line and the cause.
        """
        sent: deque[tuple[Batch, asyncio.Task[TableAnswer]]] = deque()
        try:
            with table_run(file, output, resume, on_rows) as run:
                while True:
                    while len(sent) < IN_FLIGHT and (batch := run.next_batch()):
                        call = requests.predict_table(ref, batch.body, probabilities=probabilities)
                        sent.append((batch, asyncio.create_task(self._send_patiently(call))))
                    if not sent:
                        return run.outcome()
                    batch, answer = sent.popleft()
                    try:
                        run.accept(batch, await answer)
                    except PrismError as error:
                        raise run.stopped(error, batch) from error
        finally:
            for _, answer in sent:
                answer.cancel()

    async def _send_patiently(self, call: Call[T]) -> T:
        """Send one call, again and again while a rate limit asks to wait."""
        while True:
            try:
                return await self.send(call)
            except RateLimitedError as error:
                delay = wait_seconds(error)
                if delay is None:
                    raise
            await asyncio.sleep(delay)

    async def health(self) -> Health:
        return await self.send(requests.health())

    async def doctor(self) -> dict[str, Any]:
        """Have the server examine its own machine; `checks` has what it found, each with a level and a fix."""
        return await self.send(requests.doctor())

    async def monitor(self) -> dict[str, Any]:
        """Return what the health monitor did in its last cycle."""
        return await self.send(requests.monitor())

    async def replacement(
        self, file: File = "model", *, name: str | None = None, keep: bool | None = None, traffic: Traffic | None = None
    ) -> Replacement:
        """Foresee which models an upload would replace or stop once it is live; nothing changes.

        name, keep, traffic: as for `deploy`. file: what would be uploaded; its name counts where none is given.
        """
        return await self.send(requests.replacement(name, file, keep, traffic))

    async def registry(self) -> list[dict[str, Any]]:
        """Return what the server has recorded as running on its host."""
        return await self.send(requests.registry())

    async def storage(self) -> dict[str, Any]:
        """Return the images of each model and what they take; `leftovers` are those that nothing needs."""
        return await self.send(requests.storage())

    async def prune_storage(self) -> dict[str, Any]:
        """Remove the images that nothing needs; returns `removed` and how many bytes that frees."""
        return await self.send(requests.prune_storage())

    async def prune_stale(self) -> list[str]:
        """Remove the records of what no longer runs; returns their model ids."""
        return await self.send(requests.prune_stale())

    async def share(self, *refs: str, create_key: bool = False, open_to_all: bool = False) -> Share:
        """Share live models by a link; without refs, the only live model. Returns once the link is open.

        create_key: make an API key for the share; it is in the result's `key`, this once only. open_to_all: consent
        that anyone with the link needs no key. Raises ConsentNeededError if neither is given and the server requires no
        key anyway.
        """
        return await self.send(requests.share(refs, create_key=create_key, open_to_all=open_to_all))

    async def share_status(self) -> Share:
        return await self.send(requests.share_status())

    async def stop_share(self, ref: str | None = None) -> Share:
        """Withdraw one model, or all; the link closes with the last one."""
        return await self.send(requests.stop_share(ref))

    async def send(self, call: Call[T]) -> T:
        """Send one call, with retries where that is safe."""
        attempt = 0
        while True:
            try:
                return await self._exchange(call)
            except (APIError, ConnectionFailed) as failure:
                delay = self._retries.delay_seconds(call, failure, attempt)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def stream_lines(self, call: Call[builtins.list[str]]) -> AsyncIterator[str]:
        """Yield the lines that the call returns, then new ones as they come."""
        following = LogFollower(call)
        while True:
            try:
                async for line in self._stream(following):
                    yield line
                return
            except (APIError, ConnectionFailed) as failure:
                delay = following.delay_seconds(failure, self._retries)
                if delay is None:
                    raise
            await asyncio.sleep(delay)

    async def _stream(self, following: LogFollower) -> AsyncIterator[str]:
        try:
            async with self._http.stream(**following.settings(self.timeouts)) as response:
                if not response.is_success:
                    await response.aread()
                    connection.answer(response)
                async for event in httpx2.EventSource(response):
                    line = following.line(event)
                    if line is not None:
                        yield line
                    if following.is_over:
                        return
        except httpx2.RequestError as error:
            raise connection.failure(error, self.base_url) from error

    async def _items(self, call: Call[Any], reader: ItemReader) -> AsyncGenerator[Any, None]:
        try:
            settings = {**connection.call_settings(call, self.timeouts), **content_of(call)}
            async with self._http.stream(**settings) as response:
                if not response.is_success:
                    await response.aread()
                    connection.answer(response)
                check_kind(response.headers.get("content-type", ""))
                async for data in response.aiter_bytes():
                    for item in reader.feed(data):
                        yield item
        except httpx2.RequestError as error:
            raise connection.failure(error, self.base_url) from error
        reader.check_end(self.base_url)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncPrism:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _exchange(self, call: Call[T]) -> T:
        with call.content() as content:
            try:
                response = await self._http.request(**connection.call_settings(call, self.timeouts), **content)
            except httpx2.RequestError as error:
                raise connection.failure(error, self.base_url) from error
        return call.parse(connection.answer(response))

    async def _settle(self, call: Call[Model], on_status: OnStatus | None) -> Model:
        deadline = time.monotonic() + self.timeouts.deploy_seconds
        model, seen = await self.send(call), ""
        while True:
            if on_status and model.status != seen:
                on_status(model)
            if failed := model.failure():
                raise failed
            if model.is_settled:
                return model
            if time.monotonic() > deadline:
                raise connection.still_deploying(model, self.timeouts)
            seen = model.status
            await asyncio.sleep(POLL_SECONDS)
            model = await self.models.get(model.model_id)


class AsyncModels:
    """Models of a server. ref: a name, name@version or a model_id."""

    def __init__(self, prism: AsyncPrism) -> None:
        self._prism = prism

    async def list(self, framework: str | None = None) -> builtins.list[Model]:
        """List every version. framework: only those made with it, such as "sklearn"."""
        return await self._prism.send(requests.list_models(framework))

    async def get(self, ref: str) -> Model:
        return await self._prism.send(requests.get_model(ref))

    async def delete(self, ref: str) -> builtins.list[str]:
        """Stop the model and remove everything that belongs to it; returns what was removed."""
        return await self._prism.send(requests.delete_model(ref))

    async def start(self, ref: str, *, keep: bool | None = None) -> Model:
        """Start a stopped or built model.

        keep: whether models of other names keep running beside it, now and later; None for as it was deployed.
        """
        return await self._prism.send(requests.start(ref, keep))

    async def replacement(self, ref: str, *, keep: bool | None = None) -> Replacement:
        """Foresee which models `start` would replace or stop; nothing changes."""
        return await self._prism.send(requests.replacement_by(ref, keep))

    async def stop(self, ref: str) -> Model:
        return await self._prism.send(requests.act(ref, "stop"))

    async def restart(self, ref: str) -> Model:
        return await self._prism.send(requests.act(ref, "restart"))

    async def rollback(self, ref: str, to: str | None = None) -> Model:
        """Make an earlier version live again; it takes over from the current one once it answers, without a failed request.

        ref: a model's name, for the newest version that was live before the current one; or name@version, for that one.
        to: the version's number. Raises ConflictError if there is nothing to go back to.
        """
        return await self._prism.send(requests.rollback(ref, to))

    async def dismiss(self, ref: str) -> Model:
        """Stop reporting a failed version, or the error of a live one, as something that needs attention."""
        return await self._prism.send(requests.act(ref, "dismiss"))

    async def chaos(self, ref: str, *, seconds: float = 30.0, **faults: Any) -> dict[str, Any]:
        """Break a running version on purpose; it is over by itself after `seconds`, at most 600.

        faults: one of errors (share of the answers, 0 to 1), latency_ms, hang, kill and nonsense (True).
        """
        return await self._prism.send(requests.chaos(ref, seconds, faults))

    async def end_chaos(self, ref: str) -> dict[str, Any]:
        """End what breaks a version on purpose."""
        return await self._prism.send(requests.end_chaos(ref))

    async def scale(self, ref: str, replicas: int) -> Model:
        """Change the number of replicas; no request fails meanwhile. `error` of the result says why fewer serve."""
        return await self._prism.send(requests.scale(ref, replicas))

    async def logs(
        self,
        ref: str,
        *,
        tail: int = 200,
        kind: LogKind = "runtime",
        replica: int | None = None,
        timestamps: bool = False,
    ) -> builtins.list[str]:
        """Return the last lines that the model printed, or those of its build.

        replica: number of one replica; None for all. timestamps: puts the time, in UTC, before each line of a replica.
        """
        return await self._prism.send(requests.logs(ref, tail=tail, kind=kind, replica=replica, timestamps=timestamps))

    def follow_logs(
        self,
        ref: str,
        *,
        tail: int = 200,
        kind: LogKind = "runtime",
        replica: int | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[str]:
        """Yield the last lines, then new ones as they come, until the model ends.

        After a lost connection it continues after the last line. Raises ConnectionFailed if the server stays
        unreachable.
        """
        call = requests.logs(ref, tail=tail, kind=kind, replica=replica, timestamps=timestamps)
        return self._prism.stream_lines(call)


class AsyncKeys:
    """API keys made while the server runs; the keys in its settings are not included."""

    def __init__(self, prism: AsyncPrism) -> None:
        self._prism = prism

    async def list(self) -> builtins.list[ApiKey]:
        return await self._prism.send(requests.list_keys())

    async def create(self, name: str) -> ApiKey:
        """Make a key. name: who will use it. The result's `key` is the key itself and cannot be retrieved again."""
        return await self._prism.send(requests.create_key(name))

    async def revoke(self, id: str) -> str:
        """Revoke a key: its next request is refused. Returns its id."""
        return (await self._prism.send(requests.revoke_key(id))).revoked
