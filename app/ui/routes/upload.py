"""GET /upload-model and POST /api/upload-and-run-ui: choose a file, review what is in it, deploy it.

The pages work with and without JavaScript: each response is a whole page, or for a script the part that changes.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.api.uploads import received
from app.errors import NotFound, PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.intake.multipart import FIELDS
from app.lifecycle.intake.receive import Form as ReceivedForm
from app.lifecycle.intake.staging import Staged, Staging
from app.lifecycle.replacement import replacement
from app.ui.pages import Pages
from app.ui.review import review

REVIEW = "review"
"""Form field that requests a review of the file; a form without it deploys the file."""


def router(deployments: Deployments, staging: Staging, pages: Pages, max_upload_bytes: int) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/upload-model")
    async def upload_page(request: Request, upload_id: Annotated[str, Query()] = "") -> Response:
        if not upload_id:
            return first_step(request)
        try:
            return await second_step(request, staging.get(upload_id))
        except NotFound as error:
            if deployments.state.model(upload_id) is not None:
                return to_model(upload_id)
            return first_step(request, error)

    @routes.get("/upload-model/consequence")
    async def consequence(
        request: Request,
        upload_id: Annotated[str, Query()],
        model_name: Annotated[str, Query()] = "",
        keep: Annotated[str, Query()] = "",
    ) -> Response:
        """Show what a deployment under this name replaces, while the name is typed.

        keep: the present choice. Only a choice to keep holds for whatever name; otherwise that of the name's last version.
        """
        context: dict[str, Any] = {"replacement": None, "trouble": None}
        try:
            filename = staging.get(upload_id).upload.artifact.filename
            context["replacement"] = replacement(deployments, model_name, filename, keep if keep == "true" else "")
        except PrismError as error:
            context["trouble"] = error.problem()
        return pages.render(request, "partials/consequence.html", context)

    @routes.post("/api/upload-and-run-ui")
    async def upload(request: Request) -> Response:
        texts: dict[str, str] = {}
        try:
            form = await received(request, deployments.state, max_upload_bytes, (*FIELDS, REVIEW), texts)
            return await taken(request, form)
        except PrismError as error:
            return await refused(request, texts.get("upload_id", ""), texts, error)

    async def taken(request: Request, form: ReceivedForm) -> Response:
        """Review or deploy, as the form requests.

        A file is read and staged first, so that an error in another field does not require a second upload.
        """
        upload_id = form.texts.get("upload_id", "")
        for field in ("allow_unsafe", "allow_packages"):
            form.texts.setdefault(field, "")  # browsers do not send unticked boxes
        looks = form.texts.get(REVIEW, "")
        if not upload_id:
            upload_id = (await staging.add(form)).upload_id
        elif looks:
            await staging.amend(upload_id, form)
        if looks:
            return RedirectResponse(f"/upload-model?upload_id={upload_id}", 303)
        try:
            later = form if form.model_id != upload_id else None
            return to_model((await staging.deploy(upload_id, later, run=True)).model_id)
        except PrismError as error:
            return await refused(request, upload_id, form.texts, error)

    async def refused(request: Request, upload_id: str, texts: dict[str, str], error: PrismError) -> Response:
        """Show the current step again, with what the user entered and why it was refused."""
        try:
            staged = staging.get(upload_id)
        except NotFound:
            return first_step(request, error)
        return await second_step(request, staged, error, texts)

    @routes.post("/upload-model/forget")
    async def forget(upload_id: Annotated[str, Form()]) -> RedirectResponse:
        await staging.forget(upload_id)
        return RedirectResponse("/upload-model", 303)

    def first_step(request: Request, error: PrismError | None = None) -> Response:
        context: dict[str, Any] = {
            "review": None,
            "refusal": error.problem() if error else None,
            "max_upload_bytes": max_upload_bytes,
        }
        return pages.render_either(request, "upload", context, status=error.status if error else 200)

    async def second_step(
        request: Request, staged: Staged, error: PrismError | None = None, texts: dict[str, str] | None = None
    ) -> Response:
        shown = await review(staged, staging, deployments, error, {**staged.upload.texts, **(texts or {})})
        context = {"review": shown, "max_upload_bytes": max_upload_bytes}
        return pages.render_either(request, "upload", context, status=error.status if error else 200)

    def to_model(model_id: str) -> Response:
        return RedirectResponse(f"/model?model_id={model_id}", 303)

    return routes
