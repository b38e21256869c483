"""Display of a deployment's status, and of the steps on its way to live."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from app.core.model import Deployment, Status
from app.core.route_table import is_serving
from app.lifecycle.deployments import IN_PROGRESS
from app.ui.figures import seconds_since

STEPS = (
    # name, key of its timing, the statuses during which it runs
    ("Upload", "receive", (Status.RECEIVED,)),
    ("Inspect", "inspect", (Status.INSPECTING,)),
    ("Resolve", "resolving", (Status.RESOLVING,)),
    ("Build", "building", (Status.BUILDING,)),
    ("Start", "starting", (Status.STARTING,)),
    ("Probe", "probing", (Status.PROBING,)),
    ("Live", "", (Status.LIVE,)),
)
STEP_OF_CODE = {"environment_failed": 2, "build_failed": 3, "start_failed": 4, "probe_failed": 5}
EXPLAINED = {
    "Upload": "Receiving the file",
    "Inspect": "Reading the file without running it",
    "Resolve": "Choosing exact package versions",
    "Build": "Installing the packages in their own environment",
    "Start": "Loading the model in its sandbox",
    "Probe": "Testing one prediction",
    "Live": "Taking requests",
}


class Badge(Struct, frozen=True):
    """Label for a status. tone: a CSS class of `.badge`."""

    text: str
    tone: str


class StepShown(Struct, frozen=True):
    """Step of a deployment. state: "done", "now", "waiting" or "failed".

    ms: how long the step took, or has taken so far; None if it was not measured.
    """

    name: str
    state: str
    ms: float | None
    explained: str


def badge(deployment: Deployment) -> Badge:
    """Return the badge for a deployment's status: one word and its tone."""
    status = deployment.status
    if in_progress(deployment):
        return Badge("replacing" if is_serving(deployment) else status.value, "accent")
    tones = {Status.LIVE: "good", Status.UNHEALTHY: "bad", Status.FAILED: "bad", Status.BUILT: "accent"}
    return Badge(status.value, tones.get(status, ""))


def in_progress(deployment: Deployment) -> bool:
    return deployment.status in IN_PROGRESS


def steps(deployment: Deployment, now: datetime | None = None) -> list[StepShown]:
    """Return all steps from upload to live, each with its state."""
    timings: dict[str, float] = deployment.metadata.get("timings_ms", {})
    current = step_index(deployment)
    failed = deployment.status is Status.FAILED
    shown = []
    for index, (name, key, _) in enumerate(STEPS):
        state = "done" if index < current else "waiting"
        ms = timings.get(key) if index < current else None
        if index == current:
            state = "failed" if failed else "now" if in_progress(deployment) else "done"
            ms = seconds_since(deployment.updated_at, now) * 1000 if state == "now" else timings.get(key)
        shown.append(StepShown(name, state, None if state == "failed" else ms, EXPLAINED[name]))
    return shown


def step_index(deployment: Deployment) -> int:
    """Return the index of the current step: the one under way, the one that failed, or the last one completed."""
    if deployment.status is Status.FAILED:
        return failed_index(deployment)
    if deployment.status is Status.BUILT:
        return 3
    indexes = [index for index, (_, _, statuses) in enumerate(STEPS) if deployment.status in statuses]
    return indexes[0] if indexes else len(STEPS) - 1


def failed_index(deployment: Deployment) -> int:
    """Return the index of the failed step.

    It is the step that the error names; otherwise it follows from the error's code; otherwise it is the first step
    without a recorded time.
    """
    error = deployment.error or {}
    for index, (_, _, statuses) in enumerate(STEPS):
        if error.get("step") in statuses:
            return index
    if error.get("code") in STEP_OF_CODE:
        return STEP_OF_CODE[error["code"]]
    timings = deployment.metadata.get("timings_ms", {})
    return next((index for index, (_, key, _) in enumerate(STEPS) if key not in timings), len(STEPS) - 1)
