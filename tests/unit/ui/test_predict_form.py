from __future__ import annotations

import contextlib
import json
import string
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.core.signature import Signature, Tensor
from app.ui.field_values import Unreadable, any_value, number, parse_json, whole_number
from app.ui.predict_form import MAX_FIELDS, Form, form_for, read, refilled, with_field_error

CUSTOMER = Signature(
    "table",
    (
        Tensor("age", "FP64", (-1,)),
        Tensor("visits", "INT64", (-1,)),
        Tensor("city", "BYTES", (-1,), choices=("Oslo", "Rome", 7, "7", True)),
        Tensor("member", "BOOL", (-1,)),
        Tensor("note", "BYTES", (-1,)),
        Tensor("odd", "ANY", (-1,)),
    ),
    named=True,
)
SAMPLE = {"age": 41.5, "visits": 3, "city": "Rome", "member": True, "note": "it's", "odd": 2}


def form_of(signature: Signature, sample: Any) -> Form:
    form = form_for(signature, sample)
    assert form is not None
    return form


def texts(form: Form, **changed: str) -> dict[str, str]:
    """What a browser sends of the form, changed by the names of inputs."""
    return {field.key: changed.get(field.name, field.value) for field in form.fields}


def body_of(form: Form, **changed: str) -> Any:
    read_form, body = read(form, texts(form, **changed))
    assert read_form.is_valid, [field.wrong for field in read_form.fields]
    return body


def wrong_of(form: Form, **changed: str) -> dict[str, str]:
    read_form, body = read(form, texts(form, **changed))
    assert body is None
    assert [field.value for field in read_form.fields] == list(texts(form, **changed).values())
    return {field.name: field.wrong for field in read_form.fields if field.wrong}


def test_the_form_of_a_table_has_a_control_for_each_column_filled_with_the_sample() -> None:
    form = form_of(CUSTOMER, SAMPLE)
    assert [(field.name, field.kind, field.value) for field in form.fields] == [
        ("age", "number", "41.5"),
        ("visits", "integer", "3"),
        ("city", "choice", '"Rome"'),
        ("member", "boolean", "true"),
        ("note", "text", "it's"),
        ("odd", "any", "2"),
    ]
    assert body_of(form) == SAMPLE


@pytest.mark.parametrize(
    "sample",
    [
        SAMPLE,
        {"inputs": SAMPLE},
        {"instances": [SAMPLE, {**SAMPLE, "age": 1}]},
        {"features": [list(SAMPLE.values())]},
        {"input": list(SAMPLE.values())},
        [list(SAMPLE.values())],
        {name: [value, None] for name, value in SAMPLE.items()},
        {"dataframe_split": {"columns": list(SAMPLE), "index": [0], "data": [list(SAMPLE.values())]}},
        {"dataframe_records": [SAMPLE]},
        {"inputs": [{"name": n, "shape": [1], "datatype": "X", "data": [v]} for n, v in SAMPLE.items()]},
        {"inputs": [{"name": n, "shape": [1, 1], "datatype": "X", "data": [[v]]} for n, v in SAMPLE.items()]},
    ],
    ids=str,
)
def test_a_sample_in_any_dialect_fills_the_form(sample: Any) -> None:
    assert body_of(form_of(CUSTOMER, sample)) == SAMPLE


@pytest.mark.parametrize(
    "sample", [None, {}, [], {"inputs": []}, {"features": [[1]]}, {"age": 1}, "x", [[1], 2], {"instances": [{}]}]
)
def test_a_sample_that_does_not_fit_leaves_the_form_empty(sample: Any) -> None:
    form = form_of(CUSTOMER, sample)
    assert {field.value for field in form.fields} == {""}
    assert body_of(form) == dict.fromkeys(SAMPLE)


def test_an_empty_field_is_a_missing_value() -> None:
    form = form_of(CUSTOMER, SAMPLE)
    assert body_of(form, age=" ", city="", member="", note="", odd="") == {
        "age": None, "visits": 3, "city": None, "member": None, "note": None, "odd": None,
    }  # fmt: skip


def test_a_checkbox_is_false_unless_it_is_checked_and_a_choice_where_the_value_is_missing() -> None:
    form = form_of(CUSTOMER, SAMPLE)
    unchecked = {key: text for key, text in texts(form).items() if key != "v3"}
    assert read(form, unchecked)[1] == {**SAMPLE, "member": False}
    missing = refilled(form, {**SAMPLE, "member": None})
    assert (missing.fields[3].kind, missing.fields[3].value) == ("choice", "")
    assert body_of(missing) == {**SAMPLE, "member": None}
    read_form, body = read(form, texts(missing))
    assert (body["member"], read_form.fields[3].kind) == (None, "choice")
    assert wrong_of(form, member="perhaps") == {"member": "`perhaps` is not one of the choices."}


def test_a_date_is_a_field_of_dates() -> None:
    form = form_of(Signature("table", (Tensor("when", "DATETIME", (-1,)),), named=True), {"when": "2024-12-31"})
    assert [(field.kind, field.value) for field in form.fields] == [("date", "2024-12-31")]
    for text in ("2024-02-29", "2024-12-31T18:30:00"):
        assert body_of(form, when=text) == {"when": text}
    assert body_of(form, when="") == {"when": None}
    assert wrong_of(form, when="31.12.2024") == {"when": "`31.12.2024` is not a date such as 2024-12-31."}


def test_choices_keep_their_types_from_training() -> None:
    form = form_of(CUSTOMER, SAMPLE)
    assert [choice.label for choice in form.fields[2].choices] == ["Oslo", "Rome", "7", "7", "true"]
    assert body_of(form, city="7")["city"] == 7
    assert body_of(form, city='"7"')["city"] == "7"
    assert body_of(form, city="true")["city"] is True
    assert refilled(form, {**SAMPLE, "city": "7"}).fields[2].value == '"7"'
    assert refilled(form, {**SAMPLE, "city": 7.0}).fields[2].value == "7"
    assert wrong_of(form, city="Paris") == {"city": "`Paris` is not one of the choices."}


def test_invalid_input_is_reported_at_its_field_and_kept() -> None:
    form = form_of(CUSTOMER, SAMPLE)
    assert wrong_of(form, age="abc", visits="1.5") == {
        "age": "`abc` is not a number.",
        "visits": "`1.5` is not a whole number.",
    }
    assert wrong_of(form, age="1,5") == {"age": "`1,5` is not a number. Use a decimal point."}
    assert wrong_of(form, age="1e999") == {"age": "`1e999` is beyond the range of a double."}


def test_an_untyped_column_stays_text_if_its_sample_is_text() -> None:
    form = form_of(CUSTOMER, {**SAMPLE, "odd": "12"})
    assert body_of(form, odd="34")["odd"] == "34"
    form = form_of(CUSTOMER, SAMPLE)
    assert [body_of(form, odd=text)["odd"] for text in ("34", "x", '"34"', "true", '"')] == [34, "x", "34", True, '"']


def test_columns_without_names_make_one_row_of_features() -> None:
    signature = Signature("table", tuple(Tensor(f"feature{n}", "FP64", (-1,)) for n in (1, 2, 3)))
    form = form_of(signature, {"features": [[1.0, 2.5, None]]})
    assert [field.value for field in form.fields] == ["1.0", "2.5", ""]
    assert body_of(form, feature2="-4") == {"features": [[1.0, -4, None]]}


def test_a_model_that_reads_text_takes_one_text_also_an_empty_one() -> None:
    form = form_of(Signature("table", (Tensor("text", "BYTES", (-1,)),)), {"input": ["a short text"]})
    assert [(field.kind, field.value) for field in form.fields] == [("text", "a short text")]
    assert body_of(form, text="two\nlines") == {"input": ["two\nlines"]}
    assert body_of(form, text="") == {"input": [""]}


def test_a_matrix_of_a_graph_has_a_control_for_each_of_its_columns() -> None:
    signature = Signature("tensors", (Tensor("X", "FP32", (-1, 3)),))
    form = form_of(signature, {"features": [[0, 1, 2]]})
    assert [field.name for field in form.fields] == ["feature1", "feature2", "feature3"]
    assert body_of(form) == {"features": [[0, 1, 2]]}


def test_tensors_are_json_of_their_shape_and_scalars_are_values() -> None:
    inputs = (Tensor("image", "FP32", (-1, 3, 2, 2)), Tensor("scale", "FP32", ()), Tensor("flag", "BOOL", ()))
    sample = {"inputs": {"image": [[[[0, 1], [2, 3]]] * 3], "scale": 1, "flag": False}}
    form = form_of(Signature("tensors", inputs), sample)
    assert [field.kind for field in form.fields] == ["json", "number", "boolean"]
    assert form.fields[0].hint == "FP32, n × 3 × 2 × 2: nested lists, as JSON"
    assert body_of(form) == sample
    assert wrong_of(form, image="[1, 2", scale="") == {
        "image": "This is not JSON: expecting ',' delimiter at line 1, column 6.",
        "scale": "A value is required.",
    }


def test_an_input_that_may_be_left_out_is_left_out_where_it_is_empty() -> None:
    inputs = (Tensor("x", "FP32", (-1, 2, 2)), Tensor("axis", "INT64", (), optional=True))
    form = form_of(Signature("tensors", inputs), {"inputs": {"x": [[[1]]]}})
    assert body_of(form) == {"inputs": {"x": [[[1]]]}}
    assert body_of(form, axis="1") == {"inputs": {"x": [[[1]]], "axis": 1}}


def test_a_column_that_holds_bytes_by_its_name_also_takes_a_file() -> None:
    signature = Signature("table", (Tensor("image_b64", "BYTES", (-1,)), Tensor("title", "BYTES", (-1,))), named=True)
    form = form_of(signature, {"image_b64": "aGk=", "title": "x"})
    assert [field.kind for field in form.fields] == ["file", "text"]
    assert body_of(form) == {"image_b64": "aGk=", "title": "x"}


@pytest.mark.parametrize(
    "signature",
    [
        None,
        Signature("table", ()),
        Signature("table", (Tensor("input", "ANY", (-1, -1)),)),
        Signature("table", tuple(Tensor(f"f{n}", "FP64", (-1,)) for n in range(MAX_FIELDS + 1)), named=True),
        Signature("tensors", tuple(Tensor(f"f{n}", "FP64", (-1, 3)) for n in range(MAX_FIELDS + 1))),
    ],
)
def test_a_model_without_a_form_has_none(signature: Signature | None) -> None:
    assert form_for(signature, {"features": [[1]]}) is None


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        ({"detail": "Row 0, column 'age' holds null.", "hint": "Send one.", "column": "age"}, ["age"]),
        ({"detail": "Input 'visits' has the shape [2].", "input": "visits"}, ["visits"]),
        ({"detail": "Input 'note' has the shape [2]; the model takes [3]."}, ["note"]),
        ({"detail": "The columns differ in length: 'age' 1, 'note' 2."}, []),
        ({"detail": "Out of luck."}, []),
        ({"detail": "No such thing.", "column": "elsewhere"}, []),
    ],
)
def test_a_problem_is_shown_at_the_field_that_it_names(problem: dict[str, Any], names: list[str]) -> None:
    form = with_field_error(form_of(CUSTOMER, SAMPLE), problem)
    assert [field.name for field in form.fields if field.wrong] == names
    assert all(problem["detail"] in field.wrong for field in form.fields if field.wrong)


NAMES = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True)
VALUES = {
    "FP64": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**20), 10**20)),
    "INT64": st.one_of(st.none(), st.integers(-(2**70), 2**70)),
    "BYTES": st.one_of(st.none(), st.text(min_size=1, max_size=20)),
    "BOOL": st.one_of(st.none(), st.booleans()),
    "ANY": st.one_of(st.none(), st.text(min_size=1, max_size=9), st.integers(), st.booleans()),
}


@given(names=NAMES, named=st.booleans(), data=st.data())
def test_a_form_that_is_sent_as_it_is_sends_its_sample(names: list[str], named: bool, data: st.DataObject) -> None:
    datatypes = [data.draw(st.sampled_from(sorted(VALUES))) for _ in names]
    row = {name: data.draw(VALUES[datatype]) for name, datatype in zip(names, datatypes, strict=True)}
    # A field of white space alone reads as an empty one where it is no text.
    assume(all(not isinstance(value, str) or value.strip() for value in row.values()))
    inputs = tuple(Tensor(name, datatype, (-1,)) for name, datatype in zip(names, datatypes, strict=True))
    assume(named or [(one.name, one.datatype) for one in inputs] != [("text", "BYTES")])
    sample = row if named else {"features": [list(row.values())]}
    body = body_of(form_of(Signature("table", inputs, named=named), sample))
    assert body == sample
    assert json.loads(json.dumps(body)) == sample


@given(name=st.text(min_size=1, max_size=9), given_text=st.text(max_size=40))
def test_arbitrary_text_in_a_field_causes_at_most_an_error_message(name: str, given_text: str) -> None:
    for datatype in (*VALUES, "FP16", "UINT8"):
        for shape in ((-1,), (), (-1, 2, 2)):
            kind = "table" if shape == (-1,) else "tensors"
            form = form_of(Signature(kind, (Tensor(name, datatype, shape),), named=True), None)
            filled, body = read(form, {"v0": given_text})
            assert (body is None) == (not filled.is_valid)
            assert filled.fields[0].value == given_text
            json.dumps(body)


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_number_that_is_written_is_read(value: float) -> None:
    assert number(repr(value)) == value
    assert any_value(f" {value!r} ") == value
    if isinstance(value, int):
        assert whole_number(str(value)) == value


@pytest.mark.parametrize(
    "text", ["", " ", "1_0", "0x1", "nan", "inf", "Infinity", "١", "1 2", "--1", "1e", "e1", ".", "9" * 401]
)
def test_text_that_is_not_a_json_number_is_rejected(text: str) -> None:
    with pytest.raises(Unreadable, match="is not a number"):
        number(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expecting value at line 1, column 1"),
        ('{"a": 1,\nb}', "at line 2, column 1"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[" * 101 + "]" * 101, "deeper than 100 levels"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
    ],
)
def test_invalid_json_is_reported_with_its_position(text: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        parse_json(text)


@given(st.text(alphabet=string.printable, max_size=60))
def test_json_is_read_or_refused_and_never_fails(text: str) -> None:
    with contextlib.suppress(Unreadable):
        json.dumps(parse_json(text))


AS_SENT = Signature("tensors", (Tensor("input", "ANY", (-1,)),))
"""The signature of Python mode without declared inputs."""


@pytest.mark.parametrize(
    ("sample", "fields"),
    [
        ({"prompt": "hi", "heat": 0.3}, [("prompt", "text", "hi"), ("heat", "number", "0.3")]),
        ({"inputs": {"tags": ["a"], "deep": True}}, [("tags", "json", '["a"]'), ("deep", "boolean", "true")]),
        ({"features": [{"city": "oslo", "km": 3}]}, [("city", "text", "oslo"), ("km", "number", "3")]),
        ([{"km": 3}], [("km", "number", "3")]),
        ({"input": ["a text"]}, [("input", "text", "a text")]),
    ],
)
def test_a_model_that_takes_what_is_sent_has_the_fields_of_its_sample(sample: Any, fields: Any) -> None:
    form = form_of(AS_SENT, sample)
    assert [(field.name, field.kind, field.value) for field in form.fields] == fields
    assert body_of(form) == sample
    assert body_of(refilled(form, sample)) == sample


@pytest.mark.parametrize("sample", [None, {}, [], {"features": [[1.0, 2.0]]}, {"features": []}, 3, {"": 1}])
def test_a_sample_without_names_is_one_field_of_json(sample: Any) -> None:
    (field,) = form_of(AS_SENT, sample).fields
    assert (field.name, field.kind) == ("input", "json")


def test_the_fields_of_a_sample_say_what_is_wrong_with_them() -> None:
    form = form_of(AS_SENT, {"features": [{"city": "oslo", "km": 3}]})
    assert wrong_of(form, km="far") == {"km": "`far` is not a number."}
    assert body_of(form, km="7.5") == {"features": [{"city": "oslo", "km": 7.5}]}
