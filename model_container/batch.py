"""Prediction of a batch: opaque request bodies in, one answer for each out.

    decode each → check against the signature → join requests of the same structure → predict once → check the length
    → split → encode

A bad request fails only itself, and a bad row of a table that is answered by its rows only that row; see
rows_apart.py. If a joined call fails, its requests are halved until only those at fault fail. If an
output has the wrong length, each request is predicted again on its own, and the model's requests are never joined
again.
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import msgspec
import numpy as np

from model_container.adapters.base import PROBABILITIES, Adapter, Inputs, Outputs, TakingTables
from model_container.bodies.content import Content, Decoded, Named
from model_container.bodies.csv_answer import result_columns, table_with_results
from model_container.bodies.decode import may_be_plain, read, rows_of
from model_container.bodies.encode import beside_ignored, encode, encode_native
from model_container.bodies.file_rows import FileRows
from model_container.bodies.numeric_fast_path import Matrix, PlainRows
from model_container.bodies.plain_json import encode_json
from model_container.bodies.problems import Problem
from model_container.contract.frames import (
    FORM_CSV,
    FORM_NATIVE,
    FORM_PROBLEM,
    OPTION_CSV,
    OPTION_ERRORS,
    OPTION_PROBABILITIES,
    OPTION_STRICT,
    Answer,
    Request,
)
from model_container.rows_apart import may_be_of_a_row, rows_apart

MAX_MESSAGE = 300
_TRACEBACK_FRAMES = 8

_REFUSALS = (ValueError, TypeError, KeyError, IndexError)
# Model code may call sys.exit(); that must not end the connection's thread.
FAILURES = (Exception, SystemExit)


class WrongLength(Exception):
    """Error of a model that returned a different number of rows than it was given."""

    def __init__(self, name: str, expected: int, got: Optional[int]) -> None:
        super().__init__(f"output {name!r} has {'no' if got is None else got} rows for {expected} rows of input")
        self.expected = expected
        self.got = got


class _Job(NamedTuple):
    position: int
    decoded: Decoded
    inputs: Inputs
    ignored: Tuple[str, ...] = ()


class Batcher:
    """Predictor of batches. Not thread-safe: the caller holds a lock.

    files: reader of images or sounds; by default for a model that takes none.
    """

    def __init__(self, adapter: Adapter, files: Optional[FileRows] = None) -> None:
        self._adapter = adapter
        self._table = adapter.table if isinstance(adapter, TakingTables) else None
        self._files = files or FileRows(None)
        self._joinable = adapter.joinable
        self._answers: List[Optional[Answer]] = []
        self._model_ns = 0

    def run(self, requests: Sequence[Request]) -> Tuple[List[Answer], int, int]:
        """Return the answers in request order, µs spent decoding and encoding, and µs spent in the model.

        Never raises for what a request or the model does.
        """
        began = time.perf_counter_ns()
        self._model_ns = 0
        self._answers = [None] * len(requests)
        self._predict_plain(requests)
        if None in self._answers:
            for probabilities, jobs in self._groups(requests):
                self._predict(jobs, probabilities)
        answers = [answer or failed(RuntimeError("the request was lost")) for answer in self._answers]
        answers = [self._spared(request, answer) for request, answer in zip(requests, answers)]
        total_ns = time.perf_counter_ns() - began
        return answers, (total_ns - self._model_ns) // 1000, self._model_ns // 1000

    def _predict_plain(self, requests: Sequence[Request]) -> None:
        """Answer the requests that the numeric fast path can read, in one call for each set of options.

        If anything goes wrong, these requests stay unanswered and take the general path, which finds the one at fault.
        """
        plain = self._adapter.plain
        if plain is None or (len(requests) > 1 and not self._joinable):
            return
        groups: Dict[int, List[Tuple[int, Matrix]]] = {}
        for index, request in enumerate(requests):
            rows = plain.read(request.body) if may_be_plain(request) else None
            if rows is not None:
                groups.setdefault(request.options, []).append((index, rows))
        for options, jobs in groups.items():
            self._answer_plain(plain, jobs, bool(options & OPTION_PROBABILITIES))

    def _answer_plain(self, plain: PlainRows, jobs: List[Tuple[int, Matrix]], probabilities: bool) -> None:
        adapter = self._adapter
        matrix = plain.matrix(jobs[0][1] if len(jobs) == 1 else [row for _, rows in jobs for row in rows])
        if matrix is None or (probabilities and not adapter.has_probabilities):
            return
        try:
            outputs = self._timed(adapter.plain_inputs(matrix), probabilities)
            bodies = encode_native(outputs, [len(rows) for _, rows in jobs], adapter.classes)
        except FAILURES:
            return
        for (index, _), body in zip(jobs, bodies):
            self._answers[index] = Answer(body)

    def _groups(self, requests: Sequence[Request]) -> List[Tuple[bool, List[_Job]]]:
        groups: Dict[Any, Tuple[bool, List[_Job]]] = {}
        join = self._joinable and len(requests) > 1
        for index, request in enumerate(requests):
            if self._answers[index] is not None:
                continue
            try:
                job, probabilities = self.prepare(index, request)
            except Problem as problem:
                self._answers[index] = problem.answer()
            except FAILURES as error:
                self._answers[index] = failed(error)
            else:
                key = (probabilities, job.inputs.structure) if join else index
                groups.setdefault(key, (probabilities, []))[1].append(job)
        return list(groups.values())

    def prepare(self, index: int, request: Request) -> Tuple[_Job, bool]:
        """Decode and check a request; also return whether it asks for probabilities. Raises Problem."""
        return self._checked(index, read(request, self._adapter), request.options)

    def _checked(self, index: int, decoded: Decoded, options: int) -> Tuple[_Job, bool]:
        """Check a decoded request; also return whether it asks for probabilities. Raises Problem."""
        adapter = self._adapter
        named = any(name.startswith(PROBABILITIES) for name in decoded.outputs or ())
        probabilities = bool(options & OPTION_PROBABILITIES) or (named and adapter.has_probabilities)
        if probabilities and not adapter.has_probabilities:
            raise Problem(
                422,
                "no_probabilities",
                "This model gives no probabilities.",
                "Classifiers with predict_proba, and ONNX classifiers with a probability output, do.",
            )
        content, ignored = self._fitted(options, decoded)
        read_content = self._files.content(content)
        inputs = adapter.inputs(read_content)
        if read_content is not content and self._files.is_one_at_a_time:
            inputs = inputs._replace(alone=True)
        return _Job(index, decoded, inputs, ignored), probabilities

    def _spared(self, request: Request, answer: Answer) -> Answer:
        """Return the answer of a table that is refused for some of its rows with the results of all others."""
        if not request.options & OPTION_CSV or answer.form != FORM_PROBLEM:
            return answer
        if not may_be_of_a_row(msgspec.json.decode(answer.body)):
            return answer
        try:
            table, decoded_rows = rows_of(request, self._adapter)
        except Problem:
            return answer
        keeps_errors = bool(request.options & OPTION_ERRORS)

        def names() -> Sequence[str]:
            return self._result_names(request) if keeps_errors else ()

        ignored: Tuple[str, ...] = ()

        def predict(rows: Sequence[int]) -> Dict[str, List[Any]]:
            nonlocal ignored
            results, ignored = self._results(lambda: decoded_rows(rows), request.options, len(rows))
            return results

        apart = rows_apart(len(table.lines), predict, names) if len(table.lines) > 1 or keeps_errors else None
        if apart is None:
            return answer
        spared = Answer(table_with_results(table, *apart), 200, FORM_CSV)
        return beside_ignored(spared, ignored) if ignored else spared

    def _results(
        self, decode: Callable[[], Decoded], options: int, rows: int
    ) -> Tuple[Dict[str, List[Any]], Tuple[str, ...]]:
        """Predict one request, and return its results by column and the columns that were ignored. Raises Problem."""
        try:
            job, probabilities = self._checked(0, decode(), options)
            return result_columns(self._call([job], probabilities), self._adapter.classes, rows), job.ignored
        except FAILURES as error:
            raise problem_of(error) from None

    def _result_names(self, request: Request) -> Sequence[str]:
        """Return the names of the columns of results, as the model's sample has them; none if it is not answered."""
        for sample in self._adapter.samples():
            try:
                body = Request(encode_json(sample))
                return list(self._results(lambda body=body: read(body, self._adapter), request.options, 1)[0])  # type: ignore[misc]
            except Problem:
                continue
        return ()

    def _fitted(self, options: int, decoded: Decoded) -> Tuple[Content, Tuple[str, ...]]:
        """Return the content with the columns of the model's table, and the names of those that it does not have."""
        content, table = decoded.content, self._table
        if table is None or not isinstance(content, Named) or content.values.keys() == table.known_names:
            return content, ()
        strict = options & OPTION_STRICT or decoded.form != FORM_NATIVE  # other protocols allow no others
        return table.fitted(content, bool(strict))

    def _predict(self, jobs: List[_Job], probabilities: bool) -> None:
        try:
            outputs = self._call(jobs, probabilities)
        except FAILURES as error:
            failure = error
        else:
            self._answer(jobs, outputs)
            return
        if len(jobs) == 1:
            self._answers[jobs[0].position] = failed(failure)
            return
        if isinstance(failure, WrongLength):
            print(f"prism: {failure}; requests to this model are no longer joined", file=sys.stderr, flush=True)
            self._joinable = False
            parts = [[job] for job in jobs]
        else:
            parts = [jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]]
        for part in parts:
            self._predict(part, probabilities)

    def _call(self, jobs: List[_Job], probabilities: bool) -> Outputs:
        if len(jobs) == 1:
            return self._timed(jobs[0].inputs, probabilities)
        joined = _join([job.inputs for job in jobs])
        outputs = self._timed(joined, probabilities)
        if not outputs.by_row:  # rows cannot be assigned to requests
            raise WrongLength(next(iter(outputs.values), ""), joined.rows, None)
        return outputs

    def _timed(self, inputs: Inputs, probabilities: bool) -> Outputs:
        began = time.perf_counter_ns()
        try:
            outputs = self._adapter.predict(inputs, probabilities)
        finally:
            self._model_ns += time.perf_counter_ns() - began
        if outputs.by_row and outputs.counted:
            check_length(outputs, inputs.rows)
        return outputs

    def _answer(self, jobs: List[_Job], outputs: Outputs) -> None:
        start = 0
        for job in jobs:
            end = start + job.inputs.rows
            own = outputs if len(jobs) == 1 else _rows(outputs, start, end)
            start = end
            try:
                answer = encode(job.decoded, own, self._adapter.classes)
                self._answers[job.position] = beside_ignored(answer, job.ignored) if job.ignored else answer
            except Problem as problem:
                self._answers[job.position] = problem.answer()
            except FAILURES as error:
                self._answers[job.position] = failed(error, refusals=())


def _join(requests: List[Inputs]) -> Inputs:
    columns = zip(*(inputs.arrays for inputs in requests))
    return Inputs([np.concatenate(column) for column in columns], requests[0].names)


def check_length(outputs: Outputs, rows: int) -> None:
    named: Iterable[Tuple[str, Any]] = outputs.values.items()
    if outputs.probabilities is not None:
        named = [*named, *((PROBABILITIES, array) for array in outputs.probabilities)]
    for name, value in named:
        got = len(value) if isinstance(value, list) or value.ndim else None
        if got != rows:
            raise WrongLength(name, rows, got)


def _rows(outputs: Outputs, start: int, end: int) -> Outputs:
    return outputs._replace(
        values={name: value[start:end] for name, value in outputs.values.items()},
        probabilities=None if outputs.probabilities is None else [array[start:end] for array in outputs.probabilities],
    )


def failed(error: BaseException, refusals: Tuple[Any, ...] = _REFUSALS) -> Answer:
    """Return the answer for an error of the model: its own message if it refused the input, otherwise a general one.

    The traceback of any other error goes to the log, never to a caller.
    """
    problem = problem_of(error, refusals)
    if problem.code == "model_error":
        traceback.print_exception(type(error), error, error.__traceback__, limit=-_TRACEBACK_FRAMES, file=sys.stderr)
        sys.stderr.flush()
    return problem.answer()


def problem_of(error: BaseException, refusals: Tuple[Any, ...] = _REFUSALS) -> Problem:
    """Return the problem for an error of the model, itself if it is one."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, WrongLength):
        return _wrong_length(error)
    message = " ".join(str(error).split())
    message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    name = type(error).__name__
    if isinstance(error, refusals):
        return Problem(
            422, "prediction_failed", f"The model rejected the input: {name}: {message}", _hint(message), exception=name
        )
    return Problem(
        500,
        "model_error",
        f"The model failed: {name}: {message}".rstrip(": "),
        "The model's log has the details.",
        exception=name,
    )


def _hint(message: str) -> str:
    if "NaN" in message or "missing values" in message:
        return "The model was trained without missing values; send a value instead of null."
    if "unknown categories" in message:
        return "Send one of the values the model was trained on; its signature lists them."
    return ""


def _wrong_length(error: WrongLength) -> Problem:
    return Problem(
        500,
        "wrong_output_length",
        f"The model's {error}, so its rows cannot be told apart.",
        "The model must return one prediction for each row.",
        expected=error.expected,
        got=error.got,
    )
