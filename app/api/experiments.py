"""The routes for A/B experiments: begin one, report feedback, look at what it shows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api.experiment_documents import experiment_document, results_document
from app.lifecycle.rollouts.ab import ExperimentRequest, Experiments, Report
from app.protocols.handler import InferenceHandler

EXAMPLE: JsonDict = {"name": "fraud", "variants": {"1.4.0": 50, "2.0.0": 50}, "key": "body:user_id"}
FEEDBACK: JsonDict = {"key": "user-17", "metric": "sale", "value": 1}

Number = Annotated[float, Field(strict=True)]


class NewExperiment(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: str = Field(description="Name of the model.")
    variants: dict[str, Number] = Field(
        description="Weights by version, in any unit: its number, `name@version` or its model_id. The version that "
        "answers now is the control, or else the first one is."
    )
    key: str = Field(
        "header",
        description="What callers are told apart by where the header X-Prism-Key is not sent: `query:user`, a parameter, "
        "or `body:user_id`, a member of the JSON body; otherwise the API key is.",
    )
    allow_signature_change: bool = Field(
        False, description="Begin although callers of the version that answers now would break on a variant."
    )


class NewFeedback(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [FEEDBACK]})

    metric: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="Name of what is measured.")
    value: Number = Field(allow_inf_nan=False, description="Its value; 0 and 1 for no and yes.")
    request_id: str = Field(
        "", max_length=128, description="Header X-Request-Id of the answer. Each has one value for each metric."
    )
    key: str = Field("", max_length=1024, description="Key of the caller, as the experiment sees it.")
    name: str = Field("", description="Name of the model; needed with a key while several experiments run.")
    before: bool = Field(False, description="The value is of the time before the experiment; it narrows the intervals.")


class ExperimentRoutes:
    """The routes, a method each: it decodes the request, calls the lifecycle, and encodes the answer."""

    def __init__(self, experiments: Experiments, asking: InferenceHandler) -> None:
        self._experiments = experiments
        self._asking = asking

    def router(self) -> APIRouter:
        """Return the routes for admins."""
        routes = APIRouter(prefix="/deployments", tags=["rollouts"])
        routes.post("/ab", status_code=201, summary="Begin an A/B experiment")(self.begin)
        routes.get("/{rollout_id}/results", summary="Results of an experiment")(self.results)
        return routes

    def feedback_router(self) -> APIRouter:
        """Return the route for every admitted caller; who that is comes before what is wrong with the body."""
        routes = APIRouter(tags=["rollouts"], dependencies=[Depends(self._asking.caller)])
        routes.post("/feedback", status_code=201, summary="Report feedback")(self.feedback)
        return routes

    async def begin(self, wanted: NewExperiment) -> Response:
        """Divides the callers of a name among versions. Each caller keeps its version while the experiment runs.

        Variants that do not serve yet are started and probed first.
        """
        rollout = await self._experiments.begin(
            ExperimentRequest(wanted.name, wanted.variants, wanted.key, wanted.allow_signature_change)
        )
        document = experiment_document(rollout, self._experiments.standing.number)
        return JSONResponse(document, 201, {"Location": f"/deployments/{rollout.id}"})

    async def results(
        self,
        rollout_id: str,
        lower_is_better: Annotated[bool, Query(description="Whether less of a metric is better.")] = False,
    ) -> dict[str, Any]:
        """Returns how the variants differ, with intervals that hold however often they are looked at."""
        results = await self._experiments.results(rollout_id, lower_is_better=lower_is_better)
        return results_document(results, self._experiments.standing.number)

    async def feedback(self, given: NewFeedback) -> dict[str, Any]:
        """Records a value for an experiment. The same value again changes nothing; another one for the same request is refused."""
        feedback = await self._experiments.report(
            Report(given.metric, given.value, given.request_id, given.key, given.name, given.before)
        )
        return {
            "experiment": feedback.rollout_id,
            "version": self._experiments.standing.number(feedback.model_id),
            "metric": feedback.metric,
            "value": feedback.value,
        }
