"""`prism bench` against the small server, and the rows it makes of a sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from app.errors import BadInput
from prism.cli import app
from prism.cli.bench import Target, text
from prism.cli.rows import repeated
from prism.load import Result as LoadResult
from prism.responses import Model, Signature, Tensor
from tests.unit.prism.small_server import SmallServer, document


@pytest.fixture(autouse=True)
def at_the_small_server(server: SmallServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_URL", server.url)


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments, "-c", "2", "-d", "0.2"])


def test_a_table_tells_rates_latency_and_statuses() -> None:
    result = bench("iris")
    assert result.exit_code == 0, result.stderr
    assert "iris@1.0.0: 2 connections, 1 row per request" in result.stdout
    for word in ("requests/s", "rows/s", "mean ms", "p50", "p90", "p99", "max", "200", "received"):
        assert word in result.stdout
    assert "2 connections, as fast as it answers, for 0.2 s" in result.stderr


def test_the_title_stays_on_its_line_however_narrow_the_table_is() -> None:
    nothing = LoadResult(seconds=0.2, connections=2, rate=None, answers={})
    target = Target(msgspec.convert(document(), Model), "", {}, b"{}", 1)
    assert text(target, nothing).splitlines()[0] == "iris@1.0.0: 2 connections, 1 row per request, 0.2 s"


def test_json_has_the_same_for_machines_and_the_sample_is_the_body(server: SmallServer) -> None:
    result = bench("iris", "--json", "--rate", "50")
    told = json.loads(result.stdout)
    assert (told["model"], told["connections"], told["rate"], told["interrupted"]) == ("iris@1.0.0", 2, 50, False)
    assert told["statuses"]["200"]["answers"] + told["unsent"] == pytest.approx(10, abs=1)
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"] <= told["latency_ms"]["max"]
    assert set(server.received) == {0, len('{"input":[5.1,"it\'s"]}')}


def test_refusals_are_never_told_as_throughput_and_the_way_to_lift_the_limit_is(server: SmallServer) -> None:
    server.most_predictions = 3  # the first is sent before the load
    result = bench("iris", "--json")
    told = json.loads(result.stdout)
    assert told["statuses"]["200"]["answers"] == 2 < told["statuses"]["429"]["answers"]
    assert told["requests_per_second"] == told["rows_per_second"] == pytest.approx(2 / told["seconds"], abs=0.1)
    assert f"The rate limit refused {told['statuses']['429']['answers']:,} requests (429)" in told["remarks"][1]
    server.most_predictions = 3
    assert "PRISM_RATE_LIMIT_REQUESTS=0 prism run" in " ".join(bench("iris").stderr.split())


def test_the_body_may_be_given_as_json_or_as_a_file(server: SmallServer, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_bytes(b'{"features": [[1, 2, 3]]}')
    assert bench("iris", "--body", str(tmp_path / "body.json")).exit_code == 0
    assert max(server.received) == 25
    assert bench("iris", "--body", '{"features": [[1, 2, 3, 4]]}').exit_code == 0
    assert max(server.received) == 28
    broken = bench("iris", "--body", '{"features": ')
    assert (broken.exit_code, "--body is not JSON" in broken.stderr) == (1, True)
    assert bench("iris", "--body", str(tmp_path / "nothing.json")).exit_code == 1


def test_rows_that_were_not_all_answered_are_refused() -> None:
    result = bench("iris", "--rows", "3")
    assert result.exit_code == 1
    assert "made for 3 rows was answered with 1 predictions" in result.stderr


@pytest.mark.parametrize(("change", "told"), [({"status": "stopped"}, "is stopped"), ({"sample": None}, "no sample")])
def test_a_model_that_cannot_be_asked_is_said_to_be_so(server: SmallServer, change: dict[str, Any], told: str) -> None:
    server.states = [document(**change)]
    result = bench("iris")
    assert result.exit_code in (1, 4)
    assert told in result.stderr


def test_unknown_models_missing_keys_and_absent_servers_have_their_exit_codes(
    server: SmallServer, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    assert bench("nobody").exit_code == 3
    server.key = "right"
    assert bench("iris").exit_code == 5
    monkeypatch.setenv("PRISM_API_KEY", "right")
    assert json.loads(bench("iris", "--json").stdout)["statuses"].keys() == {"200"}
    absent = bench("iris", "--url", f"http://127.0.0.1:{closed_port}")
    assert (absent.exit_code, "prism run" in absent.stderr) == (1, True)


def test_options_out_of_range_are_wrong_usage() -> None:
    for arguments in (("-c", "0"), ("-c", "100000"), ("-d", "0"), ("-d", "86400"), ("--rate", "0"), ("--rows", "0")):
        assert CliRunner().invoke(app, ["bench", "iris", *arguments]).exit_code == 2


def signature(*inputs: tuple[str, list[int]]) -> Signature:
    return Signature(inputs=[Tensor(name, "FP64", shape) for name, shape in inputs])


FOUR = signature(("X", [-1, 4]))
NAMED = signature(("age", [-1]), ("city", [-1]))


@pytest.mark.parametrize(
    ("body", "of", "three"),
    [
        ({"features": [[1, 2, 3, 4]]}, FOUR, {"features": [[1, 2, 3, 4]] * 3}),
        ({"features": [[1], [2]]}, None, {"features": [[1], [2], [1]]}),
        ({"input": [1, 2, 3, 4]}, FOUR, {"input": [[1, 2, 3, 4]] * 3}),
        ({"input": ["text"]}, signature(("text", [-1])), {"input": ["text"] * 3}),
        ([[1, 2, 3, 4]], FOUR, [[1, 2, 3, 4]] * 3),
        ({"age": 3, "city": "Oslo"}, NAMED, {"age": [3] * 3, "city": ["Oslo"] * 3}),
        ({"age": [3, 4], "city": ["Oslo", "Rome"]}, NAMED, {"age": [3, 4, 3], "city": ["Oslo", "Rome", "Oslo"]}),
        ({"input": 7}, signature(("input", [-1])), {"input": [7, 7, 7]}),
        ({"instances": [{"age": 3}]}, NAMED, {"instances": [{"age": 3}] * 3}),
        ({"inputs": {"age": [3], "city": "Oslo"}}, NAMED, {"inputs": {"age": [3] * 3, "city": ["Oslo"] * 3}}),
        (
            {"dataframe_split": {"columns": ["age"], "index": [0], "data": [[3]]}},
            None,
            {"dataframe_split": {"columns": ["age"], "data": [[3]] * 3}},
        ),
        ({"dataframe_records": [{"age": 3}]}, NAMED, {"dataframe_records": [{"age": 3}] * 3}),
        (
            {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]},
            None,
            {"inputs": [{"name": "X", "shape": [3, 2], "datatype": "FP64", "data": [1, 2, 1, 2, 1, 2]}]},
        ),
        (
            {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP64", "data": [[1, 2]]}], "id": "a"},
            None,
            {"inputs": [{"name": "X", "shape": [3, 2], "datatype": "FP64", "data": [[1, 2]] * 3}], "id": "a"},
        ),
    ],
)
def test_rows_are_repeated_in_the_dialect_of_the_body(body: Any, of: Signature | None, three: Any) -> None:
    assert repeated(body, 3, of) == three


@pytest.mark.parametrize(
    "body",
    [
        7,
        {},
        {"features": []},
        {"dataframe_split": {}},
        {"inputs": [{"name": "X", "shape": [], "datatype": "FP64", "data": []}]},
    ],
)
def test_a_body_without_rows_cannot_be_repeated(body: Any) -> None:
    with pytest.raises(BadInput):
        repeated(body, 3, None)
