"""The parts of `scripts/bench.py` that decide what its tables say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import bench
from scripts.benchmark import models, wrk
from scripts.benchmark.report import Report, Table, ratios, shown

SAID = """Running 1s test @ http://127.0.0.1:18311/
  1 threads and 64 connections
  Latency Distribution
     50%  500.00us
     75%    6.58ms
     90%    7.19ms
     99%    1.20s
  10201 requests in 1.00s, 1.18MB read
  Socket errors: connect 1, read 2, write 0, timeout 3
  Non-2xx or 3xx responses: 40
Requests/sec:  10201.33
"""


def test_what_wrk_prints_is_read_in_milliseconds_with_every_failure() -> None:
    assert wrk.parsed(SAID) == wrk.Round(10201.33, 10201, 0.5, 1200.0, 46)
    with pytest.raises(ValueError, match="unable to connect"):
        wrk.parsed("unable to connect to 127.0.0.1:1")


def test_the_wrk_script_posts_the_exact_bodies(tmp_path: Path) -> None:
    script = wrk.script(tmp_path, models.single_rows()).read_text()
    assert script.count("[==[{") == models.DIFFERENT_ROWS
    assert models.single_rows()[0].decode() in script


def test_rows_differ_and_are_the_same_in_every_run() -> None:
    bodies = models.single_rows()
    assert len(set(bodies)) == models.DIFFERENT_ROWS
    assert bodies == models.single_rows()
    first, second, *_ = models.batches(256)
    assert first != second
    assert {len(row) for row in json.loads(first)["features"]} == {models.FEATURES}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("echo", "echo"),
        (0, "0"),
        (0.254, "0.25"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12_345.6, "12,346"),
        ([0.5], "0.50"),
        ([3.0, 1.0, 2.0], "2.00 (1.00–3.00)"),
    ],
)
def test_a_figure_of_several_rounds_is_its_median_with_the_spread(value: str | float | list[float], text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["roads"], "roads: not one of road, sustained"),
        (["--targets", "process,moon"], "moon: not one of process, docker"),
        (["--seconds", "3600"], "--seconds is 1 to 60"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_starts(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        bench.parsed()
    assert told in capsys.readouterr().err


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([10, 30], [5, 10]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_tables_are_markdown_and_every_figure_is_kept_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {"processor": "a CPU", "cores": 2, "memory_mib": 2048, "system": "Linux", "python": "3.11", "commit": "c"}
    report = Report(machine, {"seconds": 1, "rounds": 2})
    report.begin()
    table = Table("road", "one row", ("model", "requests/s"), notes=["noted"])
    table.add("echo", [1.0, 3.0])
    with pytest.raises(ValueError, match="1 values for 2 columns"):
        table.add("echo")
    report.end_of(table)
    report.write(tmp_path / "bench.json")
    printed = capsys.readouterr().out
    assert "| model | requests/s |\n| --- | --- |\n| echo | 2.00 (1.00–3.00) |\n\n- noted\n" in printed
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["tables"][0]["rows"] == [{"model": "echo", "requests/s": [1.0, 3.0]}]
    assert written["machine"] == machine
