"""Tables as text: what a CSV body means to a model, and its rows with the results beside them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from model_container import rows_apart
from model_container.adapters.base import tensor
from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.bodies import csv_table
from model_container.bodies.content import Named
from model_container.bodies.problems import Problem
from model_container.contract.frames import (
    DIALECT_CSV,
    FORM_BESIDE_IGNORED,
    FORM_CSV,
    FORM_PROBLEM,
    OPTION_CSV,
    OPTION_ERRORS,
    OPTION_PROBABILITIES,
    Request,
)

ROWS = [[0.1, 0.2, 0.3, 0.4], [-1.0, 2.0, 0.5, 0.0]]


def problem_of(model: Any, body: bytes, options: int = 0) -> dict[str, Any]:
    (answer,), _, _ = Batcher(EstimatorAdapter(model)).run([Request(body, DIALECT_CSV, options)])
    assert answer.form == FORM_PROBLEM
    return {"status": answer.status, **json.loads(answer.body)}


def asked(model: Any, body: bytes) -> tuple[int, Any]:
    (answer,), _, _ = Batcher(EstimatorAdapter(model)).run([Request(body, DIALECT_CSV)])
    said = json.loads(answer.body)
    return answer.status, said["predictions"] if answer.status == 200 else said["code"]


def wanted_of(model: Any, body: Any) -> tuple[int, Any]:
    (answer,), _, _ = Batcher(EstimatorAdapter(model)).run([Request(json.dumps(body).encode())])
    assert answer.status == 200
    return answer.status, json.loads(answer.body)["predictions"]


def table_of(model: Any, body: bytes, options: int = 0) -> list[list[str]]:
    (answer,), _, _ = Batcher(EstimatorAdapter(model)).run([Request(body, DIALECT_CSV, options | OPTION_CSV)])
    assert (answer.status, answer.form) == (200, FORM_CSV), answer
    first = answer.body.decode().splitlines()[0]
    delimiter = next(each for each in (",", ";", "\t") if each in first)
    return list(csv.reader(io.StringIO(answer.body.decode(), newline=""), delimiter=delimiter))


class TestReading:
    def test_is_read_by_the_names_in_its_first_line(self, pipeline: Any) -> None:
        wanted = wanted_of(pipeline, [{"age": 41, "city": "lima", "rooms": 2}, {"age": None, "city": None, "rooms": 1}])
        assert asked(pipeline, b"rooms,age,city\n2,41,lima\n1,,\n") == wanted

    def test_may_have_the_index_that_pandas_writes(self, pipeline: Any) -> None:
        frame = pd.DataFrame({"age": [41.5, np.nan], "city": ["lima", "berlin"], "rooms": [2, 1]})
        with_index, without = (asked(pipeline, frame.to_csv(index=index).encode()) for index in (True, False))
        assert with_index == without
        assert with_index[0] == 200

    def test_columns_without_names_at_training_go_by_position(self, classifier: Any) -> None:
        body = "a,b,c,d\n" + "\n".join(",".join(map(str, row)) for row in ROWS)
        assert asked(classifier, body.encode()) == wanted_of(classifier, {"features": ROWS})

    def test_a_misspelt_column_name_is_reported(self, pipeline: Any) -> None:
        assert asked(pipeline, b"rooms,agee,city\n2,41,lima\n") == (422, "wrong_columns")

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.one_of(st.none(), st.floats(-1e9, 1e9)),
                st.integers(-(2**53), 2**53),
                st.text("ab ,\"'\n;é", min_size=1).filter(lambda text: text.strip() and text not in csv_table.MISSING),
                st.booleans(),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_what_pandas_writes_is_read_as_it_was(self, rows: list[tuple[Any, ...]]) -> None:
        frame = pd.DataFrame(rows, columns=["number", "count", "text", "truth"])
        content = csv_table.decode(Request(frame.to_csv(index=False).encode()), [tensor("text", "BYTES", [-1])]).content
        assert isinstance(content, Named)
        assert list(content.values) == list(frame.columns)
        assert list(zip(*content.values.values(), strict=True)) == rows

    def test_texts_that_look_like_numbers_stay_texts_where_the_model_takes_texts(self) -> None:
        content = csv_table.decode(Request(b"zip,count\n01234,7\n"), [tensor("zip", "BYTES", [-1])]).content
        assert {name: list(cells) for name, cells in content.values.items()} == {"zip": ["01234"], "count": [7]}

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "empty_body"),
            (b"\n\n", "empty_body"),
            (b"a,b", "no_rows"),
            (b"a,a\n1,2", "wrong_columns"),
            (b"," * (1 << 20), "wrong_columns"),
            (b"a,b\n1,2\n3", "ragged_rows"),
            (b"a,b\n1,2,3", "ragged_rows"),
            (b"a\n\xff", "not_csv"),
            (b'a\n"1', "not_csv"),
            (b'a\n"1"2', "not_csv"),
            (b"a\n" + b"1" * (1 << 21), "not_csv"),
        ],
    )
    def test_an_invalid_csv_is_rejected_with_the_reason(self, body: bytes, code: str) -> None:
        with pytest.raises(Problem) as raised:
            csv_table.decode(Request(body))
        assert raised.value.code == code

    def test_a_decimal_comma_is_named_as_what_it_is(self, pipeline: Any) -> None:
        request = Request(b"rooms;age;city\n2;41,5;lima\n", DIALECT_CSV)
        (answer,), _, _ = Batcher(EstimatorAdapter(pipeline)).run([request])
        assert answer.status == 422
        assert json.loads(answer.body)["hint"] == "Write decimals with a point."

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
    def test_the_first_line_shows_the_delimiter(self, pipeline: Any, delimiter: str, mark: bytes) -> None:
        wanted = wanted_of(pipeline, [{"age": 41, "city": "lima", "rooms": 2}] * 2)
        body = "rooms,age,city\r\n2,41.0,lima\r\n2,41,lima\r\n".replace(",", delimiter).encode()
        assert asked(pipeline, mark + body) == wanted

    def test_a_name_may_hold_another_delimiter(self) -> None:
        names = [tensor("a;b;c", "FP64", [-1]), tensor("d", "FP64", [-1])]
        content = csv_table.decode(Request(b"a;b;c,d\n1,2\n"), names).content
        assert {name: list(value) for name, value in content.values.items()} == {"a;b;c": [1.0], "d": [2.0]}

    def test_quoted_cells_hold_delimiters_line_breaks_and_quotes(self) -> None:
        content = csv_table.decode(Request(b'a,b\n"x, ""y""\nz",1\n')).content
        assert content == Named({"a": ['x, "y"\nz'], "b": [1]})

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(*[st.text("a1. ;é\t_-", max_size=4)] * 2), min_size=1, max_size=5),
        st.sampled_from(["\n", "\r\n", "\r"]),
    )
    def test_quotation_marks_around_cells_change_nothing(self, rows: list[tuple[str, str]], end: str) -> None:
        lines = [["one", "two"], *map(list, rows)]
        bare = end.join(",".join(row) for row in lines)
        quoted = end.join(",".join(f'"{cell}"' for cell in row) for row in lines)
        inputs = [tensor("one", "BYTES", [-1])]
        tables = [csv_table.decode(Request(text.encode(), options=OPTION_CSV), inputs) for text in (bare, quoted)]
        assert tables[0].table == tables[1].table
        first, second = (dict(table.content.values) for table in tables)
        assert list(first.pop("one")) == list(second.pop("one"))
        assert first == second

    @pytest.mark.parametrize("cell", ["old", "1_000", "5,1", "1e999", "12abc"])
    def test_a_cell_that_is_no_number_is_named_with_its_row_and_column(self, pipeline: Any, cell: str) -> None:
        body = f'city,age,rooms\nlima,41,2\nlima,,1\nlima,"{cell}",3\n'.encode()
        problem = problem_of(pipeline, body)
        assert (problem["status"], problem["row"], problem["column"]) == (422, 2, "age")
        assert "Row 2" in problem["detail"]
        assert cell in problem["detail"] or problem["code"] == "number_out_of_range"

    def test_columns_by_position_name_the_cell_too(self, classifier: Any) -> None:
        problem = problem_of(classifier, b"p,q,r,s\n1,2,3,4\n1,2,x,4\n")
        assert problem["row"] == 1
        assert '"x"' in problem["detail"]

    def test_booleans_are_read_in_any_spelling_and_others_named(self) -> None:
        frame = pd.DataFrame({"member": [True, False, True, False], "age": [1.0, 2, 3, 4]})
        encoder = make_column_transformer((OneHotEncoder(), ["member"]), remainder="passthrough")
        model = make_pipeline(encoder, LogisticRegression()).fit(frame, ["yes", "no", "yes", "no"])
        assert asked(model, b"member,age\ntrue,1\nFALSE,2\n1,3\n0,4\n") == (200, ["yes", "no", "yes", "no"])
        problem = problem_of(model, b"member,age\ntrue,1\nmaybe,2\n")
        assert (problem["code"], problem["row"], problem["column"]) == ("not_a_boolean", 1, "member")

    def test_a_category_that_reads_like_a_missing_value_is_none(self) -> None:
        frame = pd.DataFrame({"country": ["NA", "DE", "NA", "DE"]})
        model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, ["yes", "no", "yes", "no"])
        assert asked(model, b"country\nNA\nDE\n") == (200, ["yes", "no"])


class TestResultsBesideTheRows:
    def test_each_row_is_followed_by_its_prediction(self, pipeline: Any) -> None:
        wanted = wanted_of(pipeline, [{"age": 41, "city": "lima", "rooms": 2}, {"age": 30, "city": None, "rooms": 1}])
        table = table_of(pipeline, b"rooms;age;city\n2;41;lima\n1;30.50;\n".replace(b"30.50", b"30"))
        assert table[0] == ["rooms", "age", "city", "prediction"]
        assert [row[:3] for row in table[1:]] == [["2", "41", "lima"], ["1", "30", ""]]
        assert [row[3] for row in table[1:]] == [str(each) for each in wanted[1]]

    def test_cells_are_kept_as_they_were_written(self, classifier: Any) -> None:
        body = b',a,b,c,d\n7,1.500,"2",3e0, 4\n'
        assert table_of(classifier, body)[1][:5] == ["7", "1.500", "2", "3e0", " 4"]

    @pytest.mark.parametrize("label", ["a\nb", "a\rb", 'a"b', "a,b", "a;b"])
    def test_cells_and_results_that_need_quotation_marks_get_them(self, label: str) -> None:
        frame = pd.DataFrame({"text": [label, "other"] * 4})
        model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [label, "other"] * 4)
        written = frame.head(2).to_csv(index=False, quoting=csv.QUOTE_ALL, lineterminator="\r\n").encode()
        assert table_of(model, written) == [["text", "prediction"], [label, label], ["other", "other"]]

    def test_probabilities_have_a_column_for_each_class(self, classifier: Any) -> None:
        table = table_of(classifier, b"a,b,c,d\n0.1,0.2,0.3,0.4\n", OPTION_PROBABILITIES)
        assert table[0][4:] == ["prediction", *(f"probability_{label}" for label in classifier.classes_)]
        np.testing.assert_allclose([float(cell) for cell in table[1][5:]], classifier.predict_proba(ROWS[:1])[0])

    def test_an_output_of_several_values_has_as_many_columns(self, regressor: Any) -> None:
        table = table_of(regressor, b"a,b,c,d\n0.1,0.2,0.3,0.4\n")
        assert table[0][4:] == ["prediction_0", "prediction_1"]
        np.testing.assert_allclose([float(cell) for cell in table[1][4:]], regressor.predict(ROWS[:1])[0])

    def test_a_column_of_the_same_name_is_not_shadowed(self, classifier: Any) -> None:
        table = table_of(classifier, b"a,b,c,prediction\n0.1,0.2,0.3,0.4\n")
        assert table[0][3:] == ["prediction", "prediction_2"]

    def test_requests_that_share_a_call_each_get_their_own_rows(self, classifier: Any) -> None:
        bodies = [b"a,b,c,d\n1,2,3,4\n", b"d;c;b;a\n1;2;3;4\n5;6;7;8\n"]
        requests = [Request(body, DIALECT_CSV, OPTION_CSV) for body in bodies]
        requests.append(Request(json.dumps({"features": ROWS}).encode()))
        answers, _, _ = Batcher(EstimatorAdapter(classifier)).run(requests)
        assert [answer.body.count(b"\n") for answer in answers[:2]] == [2, 3]
        assert json.loads(answers[2].body)["predictions"] == classifier.predict(ROWS).tolist()


class TestNumbers:
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.floats().map(repr),
                st.integers(-(10**25), 10**25).map(str),
                st.sampled_from(
                    ["+1", ".5", "5.", " 7", "1_0", "0x1", "[1", "1,5", "007", "", "-0", "1e5", "1E400", "true"]
                ),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def test_cells_are_the_numbers_that_python_reads_or_left_as_they_are(self, cells: list[str]) -> None:
        body = "x;y\n" + "".join(f"{cell};1\n" for cell in cells)
        content = csv_table.decode(Request(body.encode()), [tensor("x", "FP64", [-1])]).content
        for cell, got in zip(cells, content.values["x"], strict=True):
            try:
                wanted: Any = None if cell in csv_table.MISSING else float(cell) if "_" not in cell else cell
            except ValueError:
                wanted = True if cell == "true" else cell
            got = float(got) if type(got) is int else got  # beside other cells, whole numbers are kept whole
            assert got == wanted or (got != got and wanted != wanted), (cell, got)


class TestBadRows:
    FRAME = pd.DataFrame({"city": ["lima", "oslo"] * 8, "age": [1.0, 2, 3, 4] * 4, "member": [True, False] * 8})

    @pytest.fixture
    def strict(self) -> Any:
        """A model that refuses unknown categories."""
        encoder = make_column_transformer((OneHotEncoder(), ["city", "member"]), (StandardScaler(), ["age"]))
        return make_pipeline(encoder, LogisticRegression()).fit(self.FRAME, ["a", "b"] * 8)

    def test_a_bad_cell_costs_its_row_alone_the_result(self, strict: Any) -> None:
        frame = self.FRAME.astype(object)
        wanted = strict.predict(self.FRAME).tolist()
        frame.loc[3, "city"], frame.loc[7, "age"], frame.loc[12, "member"] = "rome", "old", "maybe"
        names, *rows = table_of(strict, frame.to_csv(index=False).encode())
        assert names == ["city", "age", "member", "prediction", "error"]
        errors = {index: row[4] for index, row in enumerate(rows) if row[4]}
        assert list(errors) == [3, 7, 12]
        assert "unknown categories ['rome']" in errors[3]
        assert errors[7] == "Column 'age' holds \"old\" where a number is expected."
        assert '"maybe" where true or false is expected' in errors[12]
        assert [row[3] for row in rows] == ["" if index in errors else wanted[index] for index in range(16)]

    def test_the_column_of_errors_is_always_there_where_it_is_asked_for(self, strict: Any) -> None:
        good, bad = "city,age,member\nlima,1,true\n", "city,age,member\nrome,1,true\n"
        assert table_of(strict, good.encode(), OPTION_ERRORS)[1][4] == ""
        for options in (0, OPTION_PROBABILITIES):
            assert (
                table_of(strict, good.encode(), OPTION_ERRORS | options)[0]
                == (table := table_of(strict, bad.encode(), OPTION_ERRORS | options))[0]
            )
            assert "rome" in table[1][-1]

    def test_columns_that_are_ignored_are_named_all_the_same(self, strict: Any) -> None:
        body = b"city,age,member,id\nlima,1,true,7\nrome,1,true,8\n"
        (answer,), _, _ = Batcher(EstimatorAdapter(strict)).run([Request(body, DIALECT_CSV, OPTION_CSV)])
        assert (answer.status, answer.form) == (200, FORM_BESIDE_IGNORED)
        assert b'["id"]' in answer.body

    def test_a_table_without_a_good_row_or_of_other_columns_is_refused(self, strict: Any) -> None:
        bad = b"city,age,member\nrome,1,true\nbern,1,true\n"
        assert problem_of(strict, bad, OPTION_CSV)["code"] == "prediction_failed"
        for body, code in (
            (b"town,age,member\nlima,1,true\n", "wrong_columns"),
            (b"city,age,member\nl", "ragged_rows"),
        ):
            assert problem_of(strict, body, OPTION_CSV | OPTION_ERRORS)["code"] == code

    def test_an_answer_in_json_has_all_rows_or_none(self, strict: Any) -> None:
        assert problem_of(strict, b"city,age,member\nlima,1,true\nrome,1,true\n")["code"] == "prediction_failed"

    def test_too_many_bad_rows_end_the_search(self, monkeypatch: pytest.MonkeyPatch, strict: Any) -> None:
        monkeypatch.setattr(rows_apart, "CALLS_MAX", 4)
        frame = self.FRAME.astype(object)
        frame.loc[3, "city"] = "rome"
        assert problem_of(strict, frame.to_csv(index=False).encode(), OPTION_CSV)["code"] == "prediction_failed"


class TestFormulas:
    @pytest.mark.parametrize("label", ["=1+1", "+SUM(A1)", "-cmd", "@x", "\tx", "\rx", "-1+1", "-", "+1e9999"])
    def test_a_text_of_the_model_is_no_formula(self, label: str) -> None:
        model = DummyClassifier(strategy="constant", constant=label).fit([[1.0], [2.0]], [label, "other"])
        assert table_of(model, b"a\n1\n")[1][1] == f"'{label}"

    @pytest.mark.parametrize("label", ["-1", "+47", "-1.5e3", "-.5", "a=b", "1-2", ""])
    def test_numbers_and_other_texts_stay_as_they_are(self, label: str) -> None:
        model = DummyClassifier(strategy="constant", constant=label).fit([[1.0], [2.0]], [label, "other"])
        assert table_of(model, b"a\n1\n")[1][1] == label

    def test_the_callers_own_cells_stay_as_they_were_written(self) -> None:
        frame = pd.DataFrame({"=a": ["=1+1", "b"]})
        model = make_pipeline(OneHotEncoder(), DummyRegressor(strategy="constant", constant=-1.5)).fit(frame, [0, 1])
        assert table_of(model, b"=a\n=1+1\n") == [["=a", "prediction"], ["=1+1", "-1.5"]]
