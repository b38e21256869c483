"""Table files: where their rows end, what is sent and written, and how a run that stopped goes on."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism import AsyncPrism, Prism, errors
from prism.tables.records import BATCH_BYTES_MAX, CsvRecords
from prism.tables.run import FIRST_ROWS, MOST_ROWS, Pace

Handler = Callable[[httpx2.Request], httpx2.Response]
CELLS = st.text("a1 ,;\"'\n\r\té", max_size=6)


def read(text: str, rows: int = 3) -> list[list[str]]:
    """The rows of a file, by the batches that it is sent in."""
    records, found = CsvRecords(io.BytesIO(text.encode()), "data.csv"), []
    while batch := records.batch(rows):
        _, *sent = parsed(batch.body.decode(), records.delimiter)
        assert len(sent) == len(batch.lines)
        found += sent
    return found


def parsed(text: str, delimiter: str = ",") -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=12),
    st.sampled_from(",;\t"),
    st.booleans(),
)
def test_rows_end_where_csv_ends_them(rows: list[tuple[str, ...]], delimiter: str, marked: bool) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(["one", "two", "three"])
    writer.writerows(rows)
    assert read("\ufeff" * marked + written.getvalue()) == [list(row) for row in rows]


def test_a_quotation_mark_within_a_cell_opens_nothing() -> None:
    assert read('size,name\n5" pipe,a\n\n7" pipe,b\n') == [['5" pipe', "a"], ['7" pipe', "b"]]


def test_a_quotation_mark_that_is_never_closed_does_not_swallow_a_large_file() -> None:
    records = CsvRecords(io.BytesIO(b'a,b\n"1,2\n' + b"3,4\n" * 2_000_000), "data.csv")
    with pytest.raises(errors.InvalidRequest, match="never closed"):
        records.batch(8)


def test_a_batch_is_bounded_in_bytes() -> None:
    records = CsvRecords(io.BytesIO(b"a\n" + (b"x" * 1000 + b"\n") * 5000), "data.csv")
    batch = records.batch(MOST_ROWS)
    assert batch is not None
    assert BATCH_BYTES_MAX <= len(batch.body) <= BATCH_BYTES_MAX + 2000


@pytest.mark.parametrize(("content", "words"), [(b"", "empty"), (b"a\n\xff\xfe\n", "UTF-8")])
def test_what_is_no_table_is_refused_in_words(content: bytes, words: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=words):
        CsvRecords(io.BytesIO(content), "data.csv").batch(1)


def test_batches_grow_while_answers_are_quick_and_shrink_when_they_are_slow() -> None:
    pace = Pace()
    for _ in range(10):
        pace.adjust(pace.rows, 0.01)
    assert pace.rows == MOST_ROWS
    pace.adjust(FIRST_ROWS, 0.01)
    assert pace.rows == MOST_ROWS
    pace.adjust(MOST_ROWS, 10)
    assert pace.rows == MOST_ROWS // 2


# Runs -----------------------------------------------------------------------------------------------------------------


class Doubling:
    """A server whose model doubles `x`. bad: the cell that it refuses. busy: how many requests it turns away first."""

    def __init__(self, bad: str = "none", busy: int = 0, version: str = "1.0.0") -> None:
        self.bad, self.busy, self.version = bad, busy, version
        self.rows = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        assert request.headers["content-type"] == request.headers["accept"] == "text/csv"
        if self.busy:
            self.busy -= 1
            return httpx2.Response(429, json={"status": 429, "code": "rate_limited"}, headers={"Retry-After": "0"})
        names, *rows = parsed(request.read().decode())
        for index, row in enumerate(rows):
            if row[0] == self.bad:
                detail = f"Row {index}, column 'x' holds \"{row[0]}\"."
                return httpx2.Response(
                    422, json={"status": 422, "code": "not_a_number", "detail": detail, "row": index}
                )
        self.rows += len(rows)
        written = io.StringIO(newline="")
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow([*names, "prediction"])
        writer.writerows([*row, 2 * int(row[0])] for row in rows)
        headers = {"Content-Type": "text/csv; charset=utf-8", "X-Model-Version": self.version}
        return httpx2.Response(200, content=written.getvalue().encode(), headers=headers)


def client(handler: Handler) -> Prism:
    return Prism("http://prism.test", backoff_seconds=0, transport=httpx2.MockTransport(handler))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text("x,text\n" + "".join(f'{number},"a\n{number}"\n' for number in range(3000)))
    return path


WANTED = [["x", "text", "prediction"], *([str(number), f"a\n{number}", str(2 * number)] for number in range(3000))]


def test_rows_keep_their_order_and_have_the_results_beside_them(table: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int | None]] = []
    with client(Doubling()) as prism:
        outcome = prism.predict_file("m", table, tmp_path / "out.csv", on_rows=lambda *each: seen.append(each))
    assert (outcome.rows, outcome.versions, outcome.output) == (3000, ["1.0.0"], str(tmp_path / "out.csv"))
    assert parsed((tmp_path / "out.csv").read_text()) == WANTED
    assert seen[-1] == (3000, table.stat().st_size, table.stat().st_size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "out.csv"]


async def test_the_asynchronous_client_writes_the_same(table: Path, tmp_path: Path) -> None:
    transport = httpx2.MockTransport(Doubling(busy=3))
    async with AsyncPrism("http://prism.test", backoff_seconds=0, transport=transport) as prism:
        assert (await prism.predict_file("m", table, tmp_path / "out.csv")).rows == 3000
    assert parsed((tmp_path / "out.csv").read_text()) == WANTED


def test_rows_with_an_error_are_counted_and_a_file_of_nothing_else_stops_at_once(table: Path, tmp_path: Path) -> None:
    def judging(bad: Callable[[int], bool]) -> Handler:
        def handle(request: httpx2.Request) -> httpx2.Response:
            assert request.url.params["errors"] == "true"
            names, *rows = parsed(request.read().decode())
            written = io.StringIO(newline="")
            writer = csv.writer(written, lineterminator="\n")
            writer.writerow([*names, "prediction", "error"])
            writer.writerows([*row, *(("", 'no "way",\n') if bad(int(row[0])) else (1, ""))] for row in rows)
            return httpx2.Response(200, content=written.getvalue().encode(), headers={"Content-Type": "text/csv"})

        return handle

    with client(judging(lambda number: number in (7, 2000))) as prism:
        assert prism.predict_file("m", table, tmp_path / "out.csv").errors == 2
    with client(judging(lambda number: True)) as prism, pytest.raises(errors.FileStopped, match="None of the first 16"):
        prism.predict_file("m", table, tmp_path / "none.csv")
    assert not (tmp_path / "none.csv.part").exists()


def test_an_open_file_is_written_to_as_results_come(table: Path) -> None:
    written = io.BytesIO()
    with client(Doubling()) as prism, table.open("rb") as file:
        assert prism.predict_file("m", file, written).output == ""
    assert parsed(written.getvalue().decode()) == WANTED


def test_a_rate_limit_is_waited_for(table: Path, tmp_path: Path) -> None:
    with client(Doubling(busy=20)) as prism:
        assert prism.predict_file("m", table, tmp_path / "out.csv").rows == 3000


def test_a_refused_row_is_named_by_its_line_and_the_rest_goes_on_later(table: Path, tmp_path: Path) -> None:
    output, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    with client(Doubling(bad="2000")) as prism, pytest.raises(errors.FileStopped) as stopped:
        prism.predict_file("m", table, output)
    assert stopped.value.detail == f"Line 4002 of {table}, column 'x' holds \"2000\"."
    assert 0 < stopped.value.rows <= 2000
    assert f"{stopped.value.rows} rows" in stopped.value.hint
    assert isinstance(stopped.value.cause, errors.APIError)
    assert stopped.value.problem()["code"] == "not_a_number"
    assert not output.exists()
    assert parsed(part.read_text()) == WANTED[: stopped.value.rows + 1]
    server = Doubling()
    with client(server) as prism:
        with pytest.raises(errors.InvalidRequest, match="--resume"):
            prism.predict_file("m", table, output)
        assert prism.predict_file("m", table, output, resume=True).rows == 3000
    assert server.rows == 3000 - stopped.value.rows + 1  # the last row of the part may have been incomplete
    assert parsed(output.read_text()) == WANTED
    assert not part.exists()


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_part_that_a_kill_cut_off_goes_on_as_well(tmp_path: Path, cut: int) -> None:
    table, output = tmp_path / "data.csv", tmp_path / "out.csv"
    table.write_text('x,text\n1,é\n2,"b\n\nb"\n3,c\n')
    whole = 'x,text,prediction\n1,é,2\n2,"b\n\nb",4\n3,c,6\n'.encode()
    (tmp_path / "out.csv.part").write_bytes(whole[:cut])
    with client(Doubling()) as prism:
        prism.predict_file("m", table, output, resume=True)
    assert output.read_bytes() == whole


def test_the_part_of_another_table_is_not_resumed(table: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv.part").write_text('x,text,prediction\n0,"a\n0",0\n7,b,14\n9,c,18\n')
    with client(Doubling()) as prism, pytest.raises(errors.InvalidRequest, match="line 4 differs"):
        prism.predict_file("m", table, tmp_path / "out.csv", resume=True)
    assert (tmp_path / "out.csv.part").exists()


@pytest.mark.parametrize(("content", "error"), [("x\n", "no rows"), ("x\nbad\n", "holds")])
def test_a_run_without_a_result_leaves_nothing(tmp_path: Path, content: str, error: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    with client(Doubling(bad="bad")) as prism, pytest.raises(errors.PrismError, match=error):
        prism.predict_file("m", tmp_path / "data.csv", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_a_device_is_written_to_and_not_replaced(table: Path) -> None:
    with client(Doubling()) as prism:
        prism.predict_file("m", table, "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_results_of_other_columns_end_the_run(table: Path, tmp_path: Path) -> None:
    def changing(request: httpx2.Request) -> httpx2.Response:
        answer: Any = Doubling()(request)
        renamed = answer.content if b'\n0,"a' in request.read() else answer.content.replace(b"prediction", b"score")
        return httpx2.Response(200, content=renamed, headers={"Content-Type": "text/csv"})

    with client(changing) as prism, pytest.raises(errors.FileStopped, match="other columns"):
        prism.predict_file("m", table, tmp_path / "out.csv")


def test_an_answer_that_is_no_table_is_refused(table: Path, tmp_path: Path) -> None:
    old_server = httpx2.Response(200, json={"predictions": [1]})
    with client(lambda _: old_server) as prism, pytest.raises(errors.FileStopped, match="not a table"):
        prism.predict_file("m", table, tmp_path / "out.csv")


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    with client(Doubling()) as prism, pytest.raises(errors.InvalidRequest, match="pip install pyarrow"):
        prism.predict_file("m", tmp_path / "data.parquet", tmp_path / "out.csv")
