"""POST /predict-table: rows of CSV or Parquet with the results beside them, for the predict page.

Its script sends a table in batches; without a script, a form sends a file, and the answer is a download.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.access.admission import Admission
from app.dispatch.request import Call
from app.errors import BadInput
from app.http.problems import request_id_of
from app.lifecycle.state import DeploymentState
from app.protocols.handler import InferenceHandler
from app.protocols.native import table_or_whole
from app.ui.pages import Pages
from app.ui.problem_page import way_back
from app.ui.routes.page_caller import page_caller
from app.ui.routes.predict import offers_probabilities
from model_container.contract import frames
from model_container.contract.file_types import PARQUET_START


def router(state: DeploymentState, asking: InferenceHandler, admission: Admission, pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.post("/predict-table")
    async def predict_table(request: Request, model_id: Annotated[str, Query()]) -> Response:
        """Answer a body of CSV with CSV or a problem document, a form's file with a download or a page."""
        model = state.find(model_id)
        body = await asking.body(request)
        is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
        table, name = await file_of(request, body) if is_form else (body, "")
        call = Call(
            model.model_id,
            table,
            page_caller(admission, request),
            offers_probabilities(model),
            request_id_of(request),
            frames.DIALECT_PARQUET if table.startswith(PARQUET_START) else frames.DIALECT_CSV,
            as_csv=True,
            errors=not is_form,  # the script sends batches, whose columns must be the same
        )
        answer = await asking.ask(request, call, table_or_whole, packs=False)
        if not is_form:
            return answer
        if answer.status_code != 200:
            context = {"problem": msgspec.json.decode(answer.body), "back": way_back(request)}
            return pages.render_either(request, "problem", context, status=answer.status_code)
        answer.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(named_after(name), safe='')}"
        return answer

    return routes


async def file_of(request: Request, body: bytes) -> tuple[bytes, str]:
    """Return the content and the name of the file in a form. Raises BadInput."""

    async def content() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, content(), max_fields=1, max_files=1).parse()
    except (MultiPartException, ValueError, KeyError) as error:
        raise BadInput(f"The form cannot be read: {error}.", hint="Go back and send it again.") from error
    try:
        file = form.get("table")
        if not isinstance(file, UploadFile) or not file.filename:
            raise BadInput("No table was chosen.", hint="Go back and choose a CSV or Parquet file.")
        return await file.read(), file.filename
    finally:
        await form.close()


def named_after(filename: str) -> str:
    """Return the name of the results of a table: data.csv → data-predictions.csv, also for data.parquet."""
    stem, _, suffix = filename.rpartition(".")
    suffix = "csv" if suffix.lower() == "parquet" else suffix
    return f"{stem}-predictions.{suffix}" if stem else f"{filename}-predictions.csv"
