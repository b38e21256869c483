"""`scripts/benchmark_models.py`: what is read from others' output, and that a measurement measures."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import psutil
import pytest

from scripts import benchmark_models
from scripts.peers import baseline, table
from scripts.peers.chart import svg
from scripts.peers.load import parse_wrk, write_script
from scripts.peers.measure import Result
from scripts.peers.models import COLUMNS, is_right, train
from scripts.peers.peer import ECHO, bodies, peer_names, prediction_in, read_peer
from scripts.peers.process import free_ports, running, wait_until_open
from tests.acceptance.server import wait_for
from tests.integration.sshd import alive

CHECKOUT = Path(__file__).parents[3]
WRK = """Running 2s test @ http://127.0.0.1:8000/
  Latency Distribution
     50%    1.10ms
     99%    {p99}
  5201 requests in 2.00s, 1.2MB read
{errors}Requests/sec:   2600.50
Transfer/sec:    612.00KB
"""


@pytest.mark.parametrize(("said", "p99_ms"), [("912.00us", 0.912), ("7.50ms", 7.5), ("1.80s", 1800), ("1.10m", 66_000)])
def test_wrk_tells_its_times_in_four_units(said: str, p99_ms: float) -> None:
    assert parse_wrk(WRK.format(p99=said, errors="")) == pytest.approx((2600.5, p99_ms, 0))


def test_refusals_and_broken_connections_are_both_errors() -> None:
    errors = "  Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 40\n"
    assert parse_wrk(WRK.format(p99="1.00ms", errors=errors)).errors == 46


def test_unknown_output_of_wrk_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_body_for_wrk_is_a_string_of_lua(tmp_path: Path) -> None:
    write_script(tmp_path / "load.lua", ['{"features": [[1.5]]}'], {"X-API-Key": "bench"})
    script = (tmp_path / "load.lua").read_text()
    assert '{"{\\"features\\": [[1.5]]}"}' in script
    assert 'wrk.headers["X-API-Key"] = "bench"' in script


@pytest.mark.parametrize("name", [*peer_names(), ECHO])
def test_every_setting_of_a_peer_sends_each_row_as_json(name: str) -> None:
    peer = read_peer(name)
    for setting in peer.settings:
        for body, row in zip(
            bodies(setting.body or peer.body, [[1.0, 2.5], [3.0, 4.0]]), ("1.0, 2.5", "3.0, 4.0"), strict=True
        ):
            assert row in json.dumps(json.loads(body))


@pytest.mark.parametrize("name", [*peer_names(), ECHO])
def test_every_command_of_a_peer_is_a_program_or_a_file_in_its_folder(name: str) -> None:
    folder = CHECKOUT / "scripts" / "peers" / name
    for setting in read_peer(name).settings:
        if setting.command[0].startswith("./"):
            assert os.access(folder / setting.command[0], os.X_OK)
        if setting.command[0] == "python" and setting.command[1].endswith(".py"):
            assert (folder / setting.command[1]).exists()


@pytest.mark.parametrize("name", [name for name in peer_names() if name != "prism"])
def test_every_package_of_a_peer_is_pinned(name: str) -> None:
    pins = (CHECKOUT / "scripts" / "peers" / name / "requirements.txt").read_text().splitlines()
    assert all("==" in pin for pin in pins)


def test_a_prediction_is_found_where_the_peer_puts_it() -> None:
    assert prediction_in(b'{"outputs": [{"data": [[1.5]]}]}', ["outputs", 0, "data", 0]) == 1.5


@pytest.mark.parametrize("answer", [b'{"error": "no"}', b"not json", b'{"predictions": [[1, 2]]}'])
def test_an_answer_without_a_prediction_is_shown(answer: bytes) -> None:
    with pytest.raises(ValueError, match="no prediction") as caught:
        prediction_in(answer, ["predictions", 0])
    assert answer.decode() in str(caught.value)


def test_in_memory_every_model_is_measured_in_both_libraries() -> None:
    found = list(baseline.baselines(3, 60, ["linear"]))
    assert [(one.model, one.rows) for one in found] == [
        (f"{library} linear", rows) for library in ("scikit-learn", "ONNX") for rows in (1, 32, 256)
    ]
    assert all(one.iterations == 3 and 0 < one.p50_ms <= one.p99_ms for one in found)


def test_a_slow_model_ends_when_the_time_is_over() -> None:
    assert len(baseline.time_calls(lambda rows: None, [np.zeros((1, 1))], 1_000_000_000, 0.01)) < 1_000_000
    assert len(baseline.time_calls(lambda rows: None, [np.zeros((1, 1))], 5, 0)) == 1


def test_training_again_gives_the_same_model_and_every_row_its_own_prediction() -> None:
    first, again = train("linear"), train("linear")
    assert np.array_equal(first.expected, again.expected)
    assert first.rows.shape == (500, COLUMNS)
    assert len(np.unique(first.expected)) == 500


def test_another_rows_prediction_is_wrong_and_a_rounded_one_is_right() -> None:
    expected = train("linear").expected
    assert not is_right(expected[0], expected[1])
    assert is_right(float(np.float32(expected[0])), expected[0])


RESULTS = [
    Result("PRISM", "default", "linear", 64, 20_000, 2.5, 3.25, 0, 8000, 6.0),
    Result("Other <1>", "default", "linear", 64, 40, 0.005, 1500, 12, 8000, 6.0),
    Result("Broken", "default", "linear", 64, problem="does not predict: HTTP 503"),
]


def test_the_table_has_no_number_for_what_was_not_measured_and_says_why() -> None:
    said = table.markdown(RESULTS).splitlines()
    assert said[2] == "| PRISM | default | linear | 64 | 20,000 | 2.50 | 3.2 (6.0) | 0 |"
    assert "| 0.005 | 1,500.0 (6.0) | 12 |" in said[3]
    assert said[4].endswith("| – | – | – | not measured |")
    assert said[-1] == "- Broken, default, linear: does not predict: HTTP 503"


def test_the_chart_is_xml_with_a_bar_for_each_that_was_measured() -> None:
    chart = ElementTree.fromstring(svg(RESULTS))
    bars = chart.findall("{http://www.w3.org/2000/svg}rect")
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert len(widths) == 2
    assert widths[0] > widths[1]


def test_a_server_that_makes_a_daemon_leaves_nothing_behind(tmp_path: Path) -> None:
    daemon = "import os, signal, time; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    server = (
        f"import os, socket, subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {daemon!r}])\n"
        f"while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.01)\n"
        "s = socket.create_server(('127.0.0.1', 0))\nopen('made', 'w').write(str(s.getsockname()[1]))\n"
        "os.rename('made', 'port')\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", server]
    with running(command, dict(os.environ), tmp_path, tmp_path / "log") as process:
        wait_for((tmp_path / "port").exists, 20, "the server to listen")
        wait_until_open(int((tmp_path / "port").read_text()), process, 20)
        pid = int((tmp_path / "pid").read_text())
        assert psutil.pid_exists(pid)
    assert process.returncode is not None
    wait_for(lambda: not alive(pid), 20, "the daemon to be gone")


def test_a_server_that_exits_at_once_is_reported_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with running(command, dict(os.environ), tmp_path, tmp_path / "log") as process:
        with pytest.raises(RuntimeError, match="exit code 3"):
            wait_until_open(free_ports(1)[0], process, 20)


def test_an_unknown_peer_is_reported_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark_models.parse(["--peers", "nonesuch"])
    assert "no such peer: nonesuch; there are bentoml, " in capsys.readouterr().err
