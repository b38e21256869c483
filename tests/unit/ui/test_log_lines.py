from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import app.ui
from app.runtime.logs.reader import LogLine
from app.ui.log_lines import PATTERNS, Levels, shown_lines

SCRIPT = Path(app.ui.__file__).parent / "static" / "log-lines.js"

TOLD = [
    ("prism: LogisticRegression loaded in 412 ms", "info"),
    ("2026-01-02 03:04:05,678 ERROR in app: it broke", "error"),
    ("ERROR:root:it broke", "error"),
    ("[error    ] it broke", "error"),
    ('{"event": "it broke", "level": "error"}', "error"),
    ("level=error msg=broke", "error"),
    ("E0102 03:04:05 it broke", "error"),
    ("supervisor 7: the replica ended: killed by signal 9", "error"),
    ("12:34:56.789 failed: no wheel", "error"),
    ("prism: the model did not load", "error"),
    ("ModuleNotFoundError: No module named 'x'", "error"),
    ("sklearn.exceptions.NotFittedError", "error"),
    ("WARNING: retrying", "warning"),
    ("model.py:3: UserWarning: X has no names", "warning"),
    ("/venv/sklearn/base.py:380: InconsistentVersionWarning: pickled with 1.0", "warning"),
    ("[warning  ] slow", "warning"),
    ("DEBUG:urllib3:connected", "debug"),
    ("[debug    ] connected", "debug"),
    ("terrors of the deep", "info"),
    ("no errors at all", "info"),
    ("", "info"),
]


def log_lines(texts: list[str]) -> list[LogLine]:
    return [LogLine(text, "") for text in texts]


@pytest.mark.parametrize(("line", "level"), TOLD)
def test_the_level_of_a_line_is_recognised(line: str, level: str) -> None:
    assert Levels().of(line) == level


def test_every_line_of_a_traceback_has_the_level_error() -> None:
    lines = [
        "fine",
        "Traceback (most recent call last):",
        '  File "model.py", line 3, in predict',
        "    return 1 / 0",
        "",
        "model.Odd: nothing was left",
        "  and this belongs to it",
        "fine again",
    ]
    levels = Levels()
    assert [levels.of(line) for line in lines] == ["info", *["error"] * 6, "info"]


def test_lines_are_filtered_by_text_and_level() -> None:
    texts = ["\x1b[31mERROR\x1b[0m: Grüße", "WARNING: grüße", "INFO nothing", "DEBUG GRÜSSE, Grüße"]
    lines = log_lines(texts)
    assert [line.text for line in shown_lines(lines, "GRÜßE", "all")] == ["ERROR: Grüße", texts[1], texts[3]]
    assert [line.level for line in shown_lines(lines, "", "warning")] == ["error", "warning"]
    assert [line.level for line in shown_lines(lines, "", "info")] == ["error", "warning", "info"]
    assert len(list(shown_lines(lines, "", "no such level"))) == 4


@pytest.mark.parametrize(
    ("time", "time_of_day", "day_and_time"),
    [
        ("2026-01-02T03:04:05.678901234Z", "03:04:05", "2026-01-02 03:04:05.678 UTC"),
        ("9999-99-99T99:99:99.999999999Z", "99:99:99", "9999-99-99 99:99:99.999 UTC"),  # as a model may write
    ],
)
def test_a_line_is_shown_with_its_time(time: str, time_of_day: str, day_and_time: str) -> None:
    (line,) = shown_lines([LogLine("ERROR it broke", "1", time=time)], "it", "error")
    assert (line.time_of_day, line.day_and_time) == (time_of_day, day_and_time)
    assert (line.text, line.timestamped) == ("ERROR it broke", f"{time} ERROR it broke")


def test_a_time_is_not_searched() -> None:
    lines = [LogLine("one", "1", time="2026-01-02T03:04:05.678901234Z")]
    assert not list(shown_lines(lines, "03:04", "all"))


@pytest.mark.node
def test_the_page_takes_the_time_off_a_line() -> None:
    stamped = LogLine("it is 2026", "1", time="2026-01-02T03:04:05.678901234Z").timestamped()
    script = f"""
        import {{ Levels }} from {json.dumps(SCRIPT.as_uri())};
        const levels = new Levels({json.dumps(PATTERNS)});
        process.stdout.write(JSON.stringify({json.dumps([stamped, "03:04:05 none"])}.map((line) => levels.split(line))));
    """
    assert json.loads(run(script)) == [["2026-01-02T03:04:05.678901234Z", "it is 2026"], ["", "03:04:05 none"]]


WORDS = st.sampled_from(
    [
        *(line for line, _ in TOLD),
        "Traceback (most recent call last):",
        "  indented",
        "\ttabbed",
        "\x1b[1;31mERROR\x1b[0m",
        "ERROR_CODE",
        "XERROR",
        "Error",
        "Ошибка ERROR",
        "ßWARN",
        "level: warn",
        "prism: \u2028 did not ",
    ]
)
LINES = st.lists(st.one_of(WORDS, st.tuples(WORDS, WORDS).map(" ".join), st.text(max_size=12)), max_size=30)


@pytest.mark.node
@given(logs=st.lists(LINES, min_size=20, max_size=40))
@settings(max_examples=15, deadline=None, phases=[Phase.generate])
def test_the_page_recognises_the_same_levels_as_the_server(logs: list[list[str]]) -> None:
    """One process for many logs: starting Node takes longer than telling them."""
    logs = [[line.replace("\n", " ") for line in log] for log in logs]
    told = []
    for log in logs:
        levels = Levels()
        told.append([(line.text, levels.of(line.text)) for line in shown_lines(log_lines(log), "", "all")])
    script = f"""
        import {{ Levels }} from {json.dumps(SCRIPT.as_uri())};
        const tell = (log) => {{
            const levels = new Levels({json.dumps(PATTERNS)});
            return log.map((line) => levels.plain(line)).map((line) => [line, levels.of(line)]);
        }};
        process.stdout.write(JSON.stringify({json.dumps(logs)}.map(tell)));
    """
    found = json.loads(run(script))
    assert found == [[list(line) for line in log] for log in told]


@pytest.mark.node
def test_the_page_finds_a_text_in_whichever_case_and_keeps_the_line_whole() -> None:
    script = f"""
        import {{ pieces }} from {json.dumps(SCRIPT.as_uri())};
        process.stdout.write(JSON.stringify([
            pieces("abcABC", "b"), pieces("aaa", "aa"), pieces("none", "x"), pieces("İstanbul", "i"),
        ]));
    """
    assert json.loads(run(script)) == [["a", "b", "cA", "B", "C"], ["", "aa", "a"], ["none"], ["İstanbul"]]


def run(script: str) -> str:
    done = subprocess.run(["node", "--input-type=module"], input=script.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()
