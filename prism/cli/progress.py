"""Progress of a push: Upload → Inspect → Resolve → Build → Start → Probe → Live, each step with its time.

`Timeline` computes the steps from the statuses that the server reports and a given clock; `Progress` only shows them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from prism.cli.output import Output, duration, printable, size

if TYPE_CHECKING:
    from rich.spinner import Spinner
    from rich.table import Table

    from prism.responses import Model

STEPS = ("Upload", "Inspect", "Resolve", "Build", "Start", "Probe", "Live")
INSPECT = STEPS.index("Inspect")
BUILD = STEPS.index("Build")
STEP_OF = {"received": 1, "inspect": 1, "inspecting": 1, "resolving": 2, "building": 3, "starting": 4, "probing": 5}
"""Step under way in each status of a model that is not settled; the server's timings use the same names."""


@dataclass(frozen=True)
class Step:
    """Step of a push. seconds: None for a step that passed between two polls, until the server reports its time."""

    name: str
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    began: float = 0
    seconds: float | None = None
    note: str = ""

    def seconds_at(self, now: float) -> float | None:
        return now - self.began if self.state == "running" else self.seconds


class Timeline:
    """Steps of one push. run: if false, Build is the last step. `now` is monotonic, in seconds."""

    def __init__(self, now: float, *, run: bool = True) -> None:
        names = STEPS if run else STEPS[: BUILD + 1]
        self.steps = [Step(name) for name in names]
        self.steps[0] = replace(self.steps[0], state="running", began=now)

    def upload(self, sent_bytes: int, total_bytes: int) -> None:
        self.steps[0] = replace(self.steps[0], note=f"{size(sent_bytes)} of {size(total_bytes)}")

    def reach(self, status: str, timings_ms: Mapping[str, float], now: float) -> None:
        """Record that the model has this status since `now`. The server's own timings replace those measured here."""
        self.steps[INSPECT] = replace(self.steps[INSPECT], note="")
        if status == "failed":
            self._end("failed", now)
        else:
            self._advance(STEP_OF.get(status, BUILD + 1 if status == "built" else len(STEPS)), now)
        for key, spent_ms in timings_ms.items():
            index = STEP_OF.get(key, len(self.steps))
            if index < len(self.steps) and self.steps[index].state == "done":
                self.steps[index] = replace(self.steps[index], seconds=spent_ms / 1000)
        if status == "live":
            self.steps[-1] = replace(self.steps[-1], seconds=now - self.steps[0].began, note="in all")

    def wait_to_be_read(self, message: str, now: float) -> None:
        """Show the upload's place in the queue. message: the server's, such as `Inspect: 3rd in the queue`."""
        self._advance(INSPECT, now)
        self.steps[INSPECT] = replace(self.steps[INSPECT], note=message.removeprefix("Inspect: "))

    def _advance(self, reached: int, now: float) -> None:
        if reached < len(self.steps) and self.steps[reached].state == "running":
            return
        self._end("done", now)
        for index, step in enumerate(self.steps):
            if index < reached and step.state == "waiting":
                self.steps[index] = replace(step, state="done")
            elif index == reached and step.state != "running":
                self.steps[index] = replace(step, state="running", began=now)

    def _end(self, state: Literal["done", "failed"], now: float) -> None:
        self.steps = [
            replace(step, state=state, seconds=now - step.began) if step.state == "running" else step
            for step in self.steps
        ]


class Progress:
    """Display of one push: animated on a terminal, plain lines elsewhere."""

    def __init__(self, output: Output, *, run: bool) -> None:
        self._timeline = Timeline(time.monotonic(), run=run)
        self._spinner: Spinner | None = None
        self._output = output
        self._told: set[str] = set()

    def on_bytes(self, sent_bytes: int, total_bytes: int) -> None:
        self._timeline.upload(sent_bytes, total_bytes)

    def on_place(self, message: str) -> None:
        self._timeline.wait_to_be_read(message, time.monotonic())
        if not self._output.is_terminal:
            self._tell_ended_steps()
            self._output.say(f"{STEPS[INSPECT]:<8} {printable(message.removeprefix('Inspect: '))}")

    def on_status(self, model: Model) -> None:
        self._timeline.reach(model.status, model.timings_ms, time.monotonic())
        if not self._output.is_terminal:
            self._tell_ended_steps()

    @contextmanager
    def shown(self) -> Iterator[None]:
        if not self._output.is_terminal:
            yield
            return
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._spinner = Spinner("dots")
        with Live(get_renderable=self._table, console=Console(stderr=True), refresh_per_second=10):
            yield

    def _tell_ended_steps(self) -> None:
        for step in self._timeline.steps:
            if step.state in ("done", "failed") and step.name not in self._told:
                self._told.add(step.name)
                self._output.say(line(step, time.monotonic()))

    def _table(self) -> Table:
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        marks = {"waiting": "[dim]·[/dim]", "done": "[green]✓[/green]", "failed": "[red]✗[/red]"}
        now = time.monotonic()
        for step in self._timeline.steps:
            mark = self._spinner if step.state == "running" else marks[step.state]
            spent = step.seconds_at(now)
            style = "dim" if step.state == "waiting" else ""
            grid.add_row(mark, f"{step.name:<8}", "" if spent is None else duration(spent), step.note, style=style)
        return grid


def line(step: Step, now: float) -> str:
    """Format a step: `Build    12.0 s`, `Start    failed after 0.4 s`."""
    spent = step.seconds_at(now)
    outcome = "" if spent is None else duration(spent)
    if step.state == "failed":
        outcome = f"failed after {outcome}"
    return f"{step.name:<8} {outcome}   {step.note}".rstrip()
