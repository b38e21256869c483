"""Contents of the tab Rollout: the split, the evidence of both versions, the verdict's numbers, and what can be done."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from app.core.model import ModelVersion, Status
from app.core.rollout.bounds import answers_needed, is_within, upper_bound
from app.core.rollout.canary import IN_STEP, Sight
from app.core.rollout.records import Evidence, Rollout, RolloutEvent, RolloutState
from app.core.rollout.trial import SLOW_LIMIT, Trial, missing
from app.core.rollout.verdict import LEAST_LIMIT
from app.lifecycle.state import DeploymentState
from app.observe.history import History, Step, merged
from app.ui.figures import duration, milliseconds, percent
from app.ui.statuses import Badge

RECENT_SECONDS = 60.0
RUNNING_POLL, QUIET_POLL = "every 1s", "every 5s"
TONES = {
    RolloutState.RUNNING: "accent",
    RolloutState.HOLDING: "warn",
    RolloutState.PAUSED: "warn",
    RolloutState.PROMOTED: "good",
    RolloutState.DONE: "good",
    RolloutState.ROLLED_BACK: "bad",
    RolloutState.FAILED: "bad",
}
SHOWN, WAITING, PASSED, FAILED = (
    Badge("shown", ""),
    Badge("waiting", "accent"),
    Badge("passed", "good"),
    Badge("failed", "bad"),
)


class Measure(Struct, frozen=True):
    """One line of the evidence, as text."""

    name: str
    candidate: str
    stable: str
    limit: str
    badge: Badge


class Button(Struct, frozen=True):
    """Something that can be done now. verb: the last part of its route. does: what it does, a sentence."""

    verb: str
    label: str
    does: str


class RolloutView(Struct, frozen=True):
    """Contents of the panel. split: of each version its name and share, 0 to 1. poll: how often it refreshes.

    waits: why it does not go on; "" if it does, or is over. goes_on: whether it may change by itself at any moment.
    """

    rollout: Rollout
    badge: Badge
    title: str
    split: Sequence[tuple[str, float]]
    steps: Sequence[tuple[str, bool]]
    step: str
    waits: str
    measures: Sequence[Measure]
    buttons: Sequence[Button]
    events: Sequence[tuple[RolloutEvent, Badge]]
    poll: str
    goes_on: bool


def rollout_view(rollout: Rollout, sight: Sight, events: Sequence[RolloutEvent], history: History) -> RolloutView:
    """Gather the panel. events: what was recorded, in order; they are shown the newest first."""
    share = next((arm.weight for arm in rollout.arms if arm.model_id == rollout.candidate_id), 0.0)
    trial, stable, candidate = sight.trial, sight.versions.stable, sight.versions.candidate
    in_step = rollout.state in IN_STEP
    goes_on = in_step or rollout.state is RolloutState.PENDING
    return RolloutView(
        rollout=rollout,
        badge=_badge(rollout.state),
        title=f"Canary of {candidate}",
        split=[(f"{candidate} (candidate)", share), (f"{stable} (stable)", 1.0 - share)],
        steps=_steps(rollout),
        step=_step(rollout, sight) if in_step else "",
        waits=missing(trial, rollout.policy) if trial is not None and in_step else "",
        measures=_measures(rollout, trial, history) if rollout.is_active else (),
        buttons=_buttons(rollout.state, stable, candidate),
        events=[(event, _badge(event.what)) for event in reversed(events)],
        poll=RUNNING_POLL if goes_on else QUIET_POLL,
        goes_on=goes_on,
    )


def candidates_of(model: ModelVersion, state: DeploymentState) -> list[str]:
    """Return the versions of a model that a canary may begin with, the newest first."""
    stable = state.find(model.name)
    return [
        other.version
        for other in reversed(state.versions(model.name))
        if other.model_id != stable.model_id and state.deployment(other.model_id).status is not Status.FAILED
    ]


def _badge(word: str) -> Badge:
    state = RolloutState(word) if word in set(RolloutState) else RolloutState.RUNNING
    return Badge(word.replace("_", " "), TONES.get(state, ""))


def _steps(rollout: Rollout) -> list[tuple[str, bool]]:
    """Return the share of each step as text, and whether it is the step that it is in."""
    return [(percent(share / 100), index == rollout.step) for index, share in enumerate(rollout.policy.steps)]


def _step(rollout: Rollout, sight: Sight) -> str:
    place = f"Step {rollout.step + 1} of {len(rollout.policy.steps)}"
    return f"{place}, for {duration(sight.seconds)} of at least {duration(rollout.policy.bake_seconds)}."


def _measures(rollout: Rollout, trial: Trial | None, history: History) -> list[Measure]:
    """Return what is judged, since the step began, and then what both versions did in the last minute."""
    judged = []
    if trial is not None:
        seen, limit = trial.seen, max(rollout.policy.threshold, LEAST_LIMIT)
        needed = max(answers_needed(seen.bad, limit), answers_needed(seen.slow, SLOW_LIMIT))
        copies = f" ({seen.mirrored:,} to copies)" if seen.mirrored else ""
        enough = PASSED if seen.answers >= needed else WAITING
        judged = [
            Measure("Answers in this step", f"{seen.answers:,}{copies}", "–", f"{needed:,} or more", enough),
            _share("Bad, where stable could answer", seen.bad, seen, limit, is_above=trial.bad.is_above),
            _share("Slow", seen.slow, seen, SLOW_LIMIT, is_above=trial.slow.is_above),
            Measure("Neither could answer", f"{seen.both_failed:,}", f"{seen.both_failed:,}", "no limit", SHOWN),
        ]
    candidate, stable = (_recent(history, model_id) for model_id in (rollout.candidate_id, rollout.stable_id))
    return [
        *judged,
        Measure("Requests, last minute", f"{candidate.requests:,}", f"{stable.requests:,}", "no limit", SHOWN),
        Measure("Errors, last minute", percent(candidate.error_rate), percent(stable.error_rate), "no limit", SHOWN),
        Measure(
            "p95 latency, last minute",
            milliseconds(candidate.latency_ms(0.95)),
            milliseconds(stable.latency_ms(0.95)),
            "no limit",
            SHOWN,
        ),
    ]


def _share(name: str, count: int, seen: Evidence, limit: float, *, is_above: bool) -> Measure:
    """Return the line of a share that is judged. With 95 % confidence it is below the bound behind it."""
    told = f"{count:,} of {seen.answers:,}"
    if seen.answers:
        told += f", shown to be below {percent(upper_bound(count, seen.answers))}"
    badge = FAILED if is_above else PASSED if is_within(count, seen.answers, limit) else WAITING
    return Measure(name, told, "–", f"{percent(limit)} or less", badge)


def _recent(history: History, model_id: str) -> Step:
    return merged([moment.step for moment in history.moments(model_id) if moment.ago_seconds < RECENT_SECONDS])


def _buttons(state: RolloutState, stable: str, candidate: str) -> list[Button]:
    promote = Button("promote", f"Promote {candidate}", f"It takes all requests; {stable} stays warm for a while.")
    pause = Button("pause", "Pause", "It keeps its share, and is still judged.")
    resume = Button("resume", "Resume", "It goes on from its step.")
    back = Button("rollback", f"Roll back to {stable}", f"{stable} takes all requests at once; {candidate} stops.")
    match state:
        case RolloutState.RUNNING | RolloutState.HOLDING:
            return [promote, pause, back]
        case RolloutState.PAUSED:
            return [promote, resume, back]
        case RolloutState.PENDING | RolloutState.PROMOTED:
            return [back]
        case _:
            return []
