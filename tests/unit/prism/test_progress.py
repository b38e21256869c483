from __future__ import annotations

from prism.cli.progress import STEPS, Timeline, line


def shown(timeline: Timeline, now: float) -> dict[str, tuple[str, float | None]]:
    return {step.name: (step.state, step.seconds_at(now)) for step in timeline.steps}


def test_the_step_under_way_has_a_running_clock() -> None:
    timeline = Timeline(10.0)
    timeline.upload(1_500_000, 3_000_000)
    assert shown(timeline, 12.0)["Upload"] == ("running", 2.0)
    assert timeline.steps[0].note == "1.5 MB of 3.0 MB"
    timeline.reach("building", {}, 13.0)
    states = shown(timeline, 15.5)
    assert states["Upload"] == ("done", 3.0)
    assert states["Build"] == ("running", 2.5)
    assert states["Start"] == ("waiting", None)


def test_steps_passed_between_two_looks_take_their_time_from_the_server() -> None:
    timeline = Timeline(0.0)
    timeline.reach("building", {"receive": 9.0, "inspect": 40.0}, 1.0)
    states = shown(timeline, 1.0)
    assert states["Inspect"] == ("done", 0.04)
    assert states["Resolve"] == ("done", None)


def test_the_servers_timings_win_over_what_was_seen_from_here() -> None:
    timeline = Timeline(0.0)
    timeline.reach("building", {}, 1.0)
    timeline.reach("live", {"resolving": 500.0, "building": 7000.0, "starting": 100.0, "probing": 20.0}, 2.0)
    states = shown(timeline, 9.0)
    assert [states[name][0] for name in STEPS] == ["done"] * 7
    assert states["Live"] == ("done", 2.0)
    assert states["Build"] == ("done", 7.0)


def test_a_failure_marks_the_step_in_which_it_happened() -> None:
    timeline = Timeline(0.0)
    timeline.reach("starting", {}, 1.0)
    timeline.reach("failed", {}, 4.0)
    states = shown(timeline, 4.0)
    assert states["Start"] == ("failed", 3.0)
    assert states["Probe"] == ("waiting", None)
    assert line(timeline.steps[STEPS.index("Start")], 9.0) == "Start    failed after 3.0 s"


def test_a_push_that_only_builds_ends_with_the_build() -> None:
    timeline = Timeline(0.0, run=False)
    timeline.reach("built", {}, 5.0)
    assert [(step.name, step.state) for step in timeline.steps][-1] == ("Build", "done")


def test_an_upload_that_waits_to_be_read_tells_its_place() -> None:
    timeline = Timeline(0.0)
    timeline.wait_to_be_read("Inspect: 3rd in the queue", 1.0)
    timeline.wait_to_be_read("Inspect: 2nd in the queue", 2.0)
    assert (timeline.steps[1].name, timeline.steps[1].note) == ("Inspect", "2nd in the queue")
    assert shown(timeline, 4.0)["Upload"] == ("done", 1.0)
    assert shown(timeline, 4.0)["Inspect"] == ("running", 3.0)
    timeline.reach("resolving", {}, 5.0)
    assert (timeline.steps[1].state, timeline.steps[1].note) == ("done", "")
