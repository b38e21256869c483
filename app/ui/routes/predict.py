"""GET /predict and POST /predict-result: a form built from the model's signature, and the model's answer."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from time import perf_counter
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from msgspec import Struct
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from app.access.admission import Admission
from app.core.foreign_json import ForeignJsonError, read_json
from app.core.model import ModelVersion
from app.core.route_table import is_serving
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call, Prediction
from app.errors import BadInput, PrismError, ReplicaProtocolError, TooLarge
from app.http.bodies import limited_body
from app.http.problems import request_id_of
from app.lifecycle.state import DeploymentState
from app.runtime.runtime_config import file_input_of
from app.ui.chooser import choose_model
from app.ui.field_values import Unreadable, parse_json
from app.ui.file_tab import FileTab, file_tab, is_shown, sent_file
from app.ui.pages import Pages
from app.ui.predict_form import Form, form_for, read, refilled, with_field_error
from app.ui.prediction_view import PredictionView, prediction_view, timings_of
from app.ui.routes.head import head_context
from app.ui.routes.page_caller import page_caller
from app.ui.snippets import FILES, JSON_WORDS, Snippet, snippets, written
from app.ui.statuses import badge
from model_container.contract import frames

FORM, JSON = "form", "json"
MAX_FIELDS = 500
SHOWN_BYTES_MAX = 4 << 20
"""Size limit of an answer to show: it is parsed on the event loop, and small values take twenty times their bytes."""

OF_THE_INPUT = (400, 413, 422)
"""HTTP statuses of problems that a different input would solve."""


class Given(Struct, frozen=True):
    """User input of the page. text: content of the JSON tab. wrong: what is wrong with that text.

    file: for a model that takes images or sounds. body: the request body, if the input is valid; dialect: of that body.
    """

    form: Form | None
    text: str
    wrong: str = ""
    value: Any = None
    file: FileTab | None = None
    body: bytes | None = None
    dialect: int = frames.DIALECT_JSON


class Outcome(Struct, frozen=True):
    """Result of a prediction or its problem. total_ms: from the call of the dispatcher to its answer."""

    request_id: str
    total_ms: float
    view: PredictionView | None = None
    problem: dict[str, Any] | None = None
    model_ms: float | None = None
    version: str = ""


def router(
    state: DeploymentState, dispatcher: Dispatcher, admission: Admission, pages: Pages, max_body_bytes: int
) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    def page(
        request: Request, model: ModelVersion, tab: str, given: Given, outcome: Outcome | None = None
    ) -> HTMLResponse:
        deployment = state.deployment(model.model_id)
        return pages.render_either(
            request,
            "predict",
            {
                "model": model,
                "deployment": deployment,
                "badge": badge(deployment),
                **head_context(request, model, state),
                "serves": is_serving(deployment),
                "tab": "predict",
                "way": way_of(tab, given),
                "given": given,
                "outcome": outcome,
                "snippets": snippets_of(request, model, given, way_of(tab, given)),
            },
        )

    def snippets_of(request: Request, model: ModelVersion, given: Given, way: str) -> tuple[Snippet, ...]:
        if way not in FILES and given.value is None:
            return ()
        return snippets(
            str(request.base_url).rstrip("/"),
            ref_of(model, state),
            FILES.get(way, given.value),
            probabilities=offers_probabilities(model),
            needs_key=admission.must_have_key(),
        )

    @routes.get("/predict")
    async def predict_page(
        request: Request, model_id: Annotated[str, Query()] = "", tab: Annotated[str, Query()] = ""
    ) -> Response:
        """Show the prediction form.

        Without a model_id: the only live model's form, or a list of models to choose from.
        """
        if not model_id:
            return choose_model(request, state, pages, "Predict", fits=is_serving)
        model = state.find(model_id)
        return page(request, model, tab, sample_of(model))

    @routes.post("/predict-result")
    async def predict_result(request: Request, model_id: Annotated[str, Query()]) -> HTMLResponse:
        """Show the page again with the answer, or with what is wrong.

        The status is always 200: the page itself was served, and browsers report any other status as an error on their
        console.
        """
        model = state.find(model_id)
        try:
            texts = await texts_of(request, max_body_bytes)
        except PrismError as error:
            return page(
                request, model, "", sample_of(model), Outcome(request_id_of(request), 0, problem=error.problem())
            )
        tab = texts.get("tab", FORM)
        given = given_by(texts, sample_of(model), tab)
        if given.body is None:
            return page(request, model, tab, given)
        outcome = await outcome_of(request, model, given.body, given)
        return page(request, model, tab, with_problem(given, tab, outcome), outcome)

    async def outcome_of(request: Request, model: ModelVersion, body: bytes, given: Given) -> Outcome:
        request_id = request_id_of(request)
        call = Call(
            model.model_id,
            body,
            page_caller(admission, request),
            offers_probabilities(model),
            request_id,
            given.dialect,
        )
        began = perf_counter()
        try:
            answer = await dispatcher.predict(call)
            document = document_of(answer)
        except PrismError as error:
            return Outcome(request_id, (perf_counter() - began) * 1000, problem=error.problem())
        timings = timings_of(answer.headers.get("server-timing", ""))
        return Outcome(
            request_id,
            (perf_counter() - began) * 1000,
            view=prediction_view(document, of_files=given.file is not None) if answer.status == 200 else None,
            problem=document if answer.status != 200 else None,
            model_ms=timings.get("inference"),
            version=answer.headers.get("x-model-version", ""),
        )

    return routes


def document_of(answer: Prediction) -> dict[str, Any]:
    """Decode an answer.

    Raises ReplicaProtocolError if it is not a valid answer, and TooLarge if it is too large for a page.
    """
    if len(answer.body) > SHOWN_BYTES_MAX:
        raise TooLarge(
            f"The answer has {len(answer.body)} bytes, too many to show.", hint="Request it from a program instead."
        )
    try:
        document: dict[str, Any] = read_json(answer.body, dict[str, Any])
    except ForeignJsonError as error:
        raise ReplicaProtocolError.of(f"its answer is not a JSON object, {error}") from None
    if not all(isinstance(document.get(key) or [], list) for key in ("predictions", "classes", "probabilities")):
        raise ReplicaProtocolError.of("its answer has no list of predictions")
    return document


def offers_probabilities(model: ModelVersion) -> bool:
    return model.findings.signature is not None and "predict_proba" in model.findings.signature.methods


def ref_of(model: ModelVersion, state: DeploymentState) -> str:
    """Return the reference that programs should use for this version: its name if that leads to it, otherwise
    name@version.
    """
    return model.name if state.find(model.name).model_id == model.model_id else model.ref


def way_of(tab: str, given: Given) -> str:
    """Return the tab that is shown: the one asked for if the model has it, otherwise the first that it has."""
    files = {} if given.file is None else {given.file.kind: given.file}
    offered = {**files, FORM: given.form, JSON: True}
    return tab if offered.get(tab) else next(name for name, is_there in offered.items() if is_there)


def sample_of(model: ModelVersion) -> Given:
    """Return the form filled with the model's sample."""
    file = file_tab(file_input_of(model))
    if file is not None and not is_shown(model.findings.sample):
        return Given(None, "", file=file)
    form = form_for(model.findings.signature, model.findings.sample)
    text = "" if model.findings.sample is None else written(model.findings.sample, JSON_WORDS)
    return Given(form, text, value=model.findings.sample, file=file)


def given_by(texts: dict[str, str], sample: Given, tab: str) -> Given:
    """Read the user's input from either tab; the other tab then shows the same values, if it can."""
    if sample.file is not None and tab == sample.file.kind:
        file = sent_file(sample.file, texts.get(tab, ""))
        return msgspec.structs.replace(sample, file=file, body=file.body, dialect=frames.DIALECT_FILE)
    given = _given_values(texts, sample, tab)
    return msgspec.structs.replace(given, file=sample.file)


def _given_values(texts: dict[str, str], sample: Given, tab: str) -> Given:
    if tab == FORM and sample.form is not None:
        form, value = read(sample.form, texts)
        if value is None:
            return Given(form, texts.get("json", sample.text), value=sample.value)
        text = written(value, JSON_WORDS)
        return Given(form, text, value=value, body=text.encode())
    text = texts.get("json", "")
    try:
        value = parse_json(text)
    except Unreadable as error:
        return Given(sample.form, text, str(error), sample.value)
    refilled_form = refilled(sample.form, value) if sample.form else None
    return Given(refilled_form, text, value=value, body=text.encode())


def with_problem(given: Given, tab: str, outcome: Outcome) -> Given:
    """Attach a problem with the input to the field that it names."""
    problem = outcome.problem
    if problem is None or problem.get("status") not in OF_THE_INPUT:
        return given
    if tab == FORM and given.form is not None:
        return msgspec.structs.replace(given, form=with_field_error(given.form, problem))
    if given.file is not None and tab == given.file.kind:
        wrong = str(problem.get("detail") or problem.get("title"))
        return msgspec.structs.replace(given, file=msgspec.structs.replace(given.file, wrong=wrong))
    words = " ".join(str(problem[key]) for key in ("detail", "hint") if problem.get(key))
    return msgspec.structs.replace(given, wrong=words)


async def texts_of(request: Request, max_bytes: int) -> dict[str, str]:
    """Return the form's texts by field name; an uploaded file replaces its field's text, base64-encoded.

    Raises BadInput if the body is no form, and TooLarge if it exceeds max_bytes.
    """
    body = await limited_body(request, max_bytes)

    async def content() -> AsyncGenerator[bytes, None]:
        yield body

    is_multipart = request.headers.get("content-type", "").startswith("multipart/form-data")
    try:
        if is_multipart:
            form = await MultiPartParser(
                request.headers, content(), max_fields=MAX_FIELDS, max_files=MAX_FIELDS, max_part_size=max_bytes
            ).parse()
        else:
            form = await FormParser(request.headers, content(), max_fields=MAX_FIELDS).parse()
    except (MultiPartException, ValueError, KeyError) as error:
        raise BadInput(f"The form cannot be read: {error}.", hint="Go back and send it again.") from error
    try:
        return await _texts(form)
    finally:
        await form.close()


async def _texts(form: FormData) -> dict[str, str]:
    texts = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            content = await value.read()
            if content:
                texts[name.removesuffix("-file")] = base64.b64encode(content).decode()
        else:
            texts.setdefault(name, value.replace("\r\n", "\n"))  # browsers submit line breaks as CRLF
    return texts
