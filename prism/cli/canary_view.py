"""A canary as text: the split as bars, the evidence against the limit, the state and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prism.cli.output import duration, printable

if TYPE_CHECKING:
    from prism.rollouts import Rollout, RolloutEvent

BAR = 40
"""Width of a bar, in characters."""


def describe(rollout: Rollout) -> str:
    """Return the lines that show a canary as it is."""
    rows = [("Evidence", _evidence(rollout)), ("Limit", _limit(rollout)), ("Step", _step(rollout))]
    rows += [("Missing", printable(rollout.missing or "")), ("Why", printable(rollout.reason or ""))]
    lines = [f"{label:<9} {text}" for label, text in rows if text]
    return "\n".join([f"{printable(rollout.name)} is {_state(rollout.state)}", *_bars(rollout), *lines])


def event_line(event: RolloutEvent) -> str:
    """Format an event: `22:04:11 step: 2.0.0 takes 5 %`."""
    return printable(f"{event.at[11:19]} {_state(event.what)}: {event.text}")


def summary(rollout: Rollout) -> str:
    """Return why it is in its state, or what it lacks, in one line; "-" for nothing."""
    return rollout.reason or rollout.missing or "-"


def _bars(rollout: Rollout) -> list[str]:
    width = max(map(len, rollout.split))
    lines = []
    for version, share in rollout.split.items():
        filled = min(BAR, max(round(share / 100 * BAR), 1 if share else 0))
        lines.append(f"{printable(version):<{width}} {'█' * filled}{'░' * (BAR - filled)} {share:g} %")
    return lines


def _evidence(rollout: Rollout) -> str:
    seen = rollout.evidence
    if seen is None:
        return ""
    copies = f" ({seen.mirrored:,} to copies)" if seen.mirrored else ""
    return f"{seen.answers:,} answers{copies}, {seen.bad:,} bad, {seen.slow:,} slow"


def _limit(rollout: Rollout) -> str:
    if rollout.is_over:
        return ""
    told = f"{_percent(rollout.auto_rollback_threshold)} bad"
    if rollout.bad_share_bound is not None and rollout.evidence is not None and rollout.evidence.answers:
        told += f"; shown so far: below {_percent(rollout.bad_share_bound)}"
    return told


def _step(rollout: Rollout) -> str:
    if rollout.is_decided or rollout.seconds is None:
        return ""
    steps = ", ".join(
        f"[{share:g}]" if index == rollout.step else f"{share:g}" for index, share in enumerate(rollout.steps)
    )
    return f"{steps} %, for {duration(rollout.seconds)} of at least {duration(rollout.bake_seconds)}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _state(state: str) -> str:
    return printable(state.replace("_", " "))
