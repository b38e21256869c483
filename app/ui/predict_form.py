"""Prediction form: built from a model's signature, filled with its sample, and converted to a request body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct, structs

from app.core.signature import Signature, Tensor
from app.ui.field_values import (
    Unreadable,
    any_value,
    compact_json,
    date,
    number,
    parse_json,
    text_of,
    whole_number,
)
from app.ui.samples import held_by, record_of, row_of, tensors_of

MAX_FIELDS = 100
LEFT_OUT = object()
"""Marker in place of the value of an input that is not sent."""

HOLDS_BYTES = re.compile(r"image|img|photo|picture|audio|file|bytes|base64|b64|blob|pdf", re.IGNORECASE)

Kind = Literal["number", "integer", "choice", "boolean", "date", "text", "any", "json", "file"]
Way = Literal["named", "row", "texts", "tensors", "record", "object"]

READERS: dict[Kind, Callable[[str], Any]] = {
    "number": number,
    "integer": whole_number,
    "choice": json.loads,
    "boolean": json.loads,
    "date": date,
    "any": any_value,
    "json": parse_json,
    "text": str,
    "file": str,
}
KINDS: dict[str, Kind] = {"BYTES": "text", "DATETIME": "date"}
HINTS: dict[Kind, str] = {
    "number": "number",
    "integer": "whole number",
    "any": "number or text",
    "file": "base64, or a file",
}


class Choice(Struct, frozen=True):
    """One choice of a field. value: as JSON, so that 1 and "1" differ."""

    value: str
    label: str


class Field(Struct, frozen=True):
    """One field of the form. key: its name in the HTML form. value: its text. wrong: what is wrong with that text.

    is_nullable: empty text means that the value is missing (null). is_optional: with empty text the input is not sent.
    keeps_text: the text is never parsed as a number. is_truth: it is true, false or missing; a checkbox, unless it is missing
    now.
    """

    key: str
    name: str
    kind: Kind
    hint: str = ""
    value: str = ""
    choices: tuple[Choice, ...] = ()
    is_nullable: bool = False
    is_optional: bool = False
    keeps_text: bool = False
    is_truth: bool = False
    wrong: str = ""


class Form(Struct, frozen=True):
    """Prediction form.

    way: how the values form the body: {name: value}, one row of features, one text, tensors by name, or for a model that
    takes what is sent, one record in a list or an object as a whole. key: that holds the texts, the record or the object.
    """

    fields: tuple[Field, ...]
    way: Way
    key: str = ""

    @property
    def is_valid(self) -> bool:
        return not any(field.wrong for field in self.fields)


def form_for(signature: Signature | None, sample: Any) -> Form | None:
    """Build the form. None if the model does not declare its inputs or has too many of them for a form."""
    if signature is None or not signature.inputs:
        return None
    if signature.kind == "table":
        return _table_form(signature.inputs, signature.named, sample)
    if [(tensor.datatype, tensor.shape) for tensor in signature.inputs] == [("ANY", (-1,))]:
        return _form_of_sample(sample) or _tensor_form(signature.inputs, sample)
    return _tensor_form(signature.inputs, sample)


def refilled(form: Form, body: Any) -> Form:
    """Return the form with the values of another body for the same model; unchanged if the body is not one row."""
    names = [field.name for field in form.fields]
    if form.way == "tensors":
        values = tensors_of(body, names, [field.name for field in form.fields if not field.is_optional])
    elif form.way in ("record", "object"):
        values = record_of(body, names)
    else:
        values = row_of(body, names)
    if not values:
        return form
    return Form(tuple(_with(field, values.get(field.name, LEFT_OUT)) for field in form.fields), form.way, form.key)


def read(form: Form, given: Mapping[str, str]) -> tuple[Form, Any]:
    """Read the submitted texts. given: the fields' texts by key.

    Returns the form with these texts, and the request body; the body is None if any field has an error in `wrong`.
    """
    fields, values = [], []
    for field in form.fields:
        field = _given(field, given)
        try:
            values.append(_value_of(field))
        except Unreadable as error:
            field = structs.replace(field, wrong=str(error))
        fields.append(field)
    form = structs.replace(form, fields=tuple(fields))
    return form, _body(form, values) if form.is_valid else None


def _given(field: Field, given: Mapping[str, str]) -> Field:
    """Return the field with its submitted text. Browsers send nothing for a checkbox that is not checked."""
    text = given.get(field.key, "false" if field.kind == "boolean" else "")
    kind = field.kind
    if field.is_truth:
        kind = "boolean" if text in ("true", "false") else "choice"
    return structs.replace(field, value=text, kind=kind, wrong="")


def with_field_error(form: Form, problem: Mapping[str, Any]) -> Form:
    """Attach a problem reported by the model to the field that it names, if it names one."""
    name = problem.get("column", problem.get("input"))
    if name is None:
        named = [field.name for field in form.fields if repr(field.name) in str(problem.get("detail"))]
        name = named[0] if len(named) == 1 else None
    words = " ".join(str(problem[key]) for key in ("detail", "hint") if problem.get(key))
    fields = [structs.replace(field, wrong=words) if field.name == name else field for field in form.fields]
    return structs.replace(form, fields=tuple(fields))


def _form_of_sample(sample: Any) -> Form | None:
    """Return the form of a model that takes what is sent: with the fields of its sample. None if that has none."""
    key, content = held_by(sample)
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, str):
        return refilled(Form((Field("v0", key or "text", "text"),), "texts", key), sample) if key else None
    if not isinstance(first, dict) or not 0 < len(first) <= MAX_FIELDS or not all(first):
        return None
    fields = tuple(_of_value(f"v{index}", name, value) for index, (name, value) in enumerate(first.items()))
    return Form(fields, "object" if first is content else "record", key)


def _of_value(key: str, name: str, value: Any) -> Field:
    if isinstance(value, bool):
        return _with(_column(key, Tensor(name, "BOOL", (-1,))), value)
    if isinstance(value, (int, float)):
        return _with(Field(key, name, "number", HINTS["number"]), value)
    if isinstance(value, str):
        return _with(Field(key, name, "file" if HOLDS_BYTES.search(name) else "text"), value)
    return _with(Field(key, name, "json", "JSON"), value)


def _table_form(inputs: tuple[Tensor, ...], named: bool, sample: Any) -> Form | None:
    inputs = tuple(tensor for tensor in inputs if not tensor.optional)  # the model drops the others
    takes_anything = [tensor.shape for tensor in inputs] == [(-1, -1)]
    if takes_anything or len(inputs) > MAX_FIELDS:
        return None
    fields = tuple(_column(f"v{index}", tensor) for index, tensor in enumerate(inputs))
    if not named and [(tensor.name, tensor.datatype) for tensor in inputs] == [("text", "BYTES")]:
        return refilled(Form((structs.replace(fields[0], is_nullable=False),), "texts", "input"), sample)
    return refilled(Form(fields, "named" if named else "row"), sample)


def _column(key: str, tensor: Tensor) -> Field:
    kind = _kind(tensor.datatype)
    is_truth = tensor.datatype == "BOOL" and not tensor.choices
    choices = tensor.choices or ((True, False) if is_truth else ())
    if choices:
        kind = "choice"
    elif kind == "text" and HOLDS_BYTES.search(tensor.name):
        kind = "file"
    shown = tuple(Choice(json.dumps(choice), text_of(choice)) for choice in choices)
    return Field(key, tensor.name, kind, HINTS.get(kind, ""), "", shown, is_nullable=True, is_truth=is_truth)


def _tensor_form(inputs: tuple[Tensor, ...], sample: Any) -> Form | None:
    matrix = inputs[0]
    is_matrix = len(inputs) == 1 and len(matrix.shape) == 2 and matrix.shape[1] > 0
    if is_matrix and isinstance(sample, dict) and list(sample) == ["features"]:
        names = [f"feature{index + 1}" for index in range(matrix.shape[1])]
        return _table_form(tuple(Tensor(name, matrix.datatype, (-1,)) for name in names), False, sample)
    if len(inputs) > MAX_FIELDS:
        return None
    fields = tuple(_tensor(f"v{index}", tensor) for index, tensor in enumerate(inputs))
    return refilled(Form(fields, "tensors"), sample)


def _tensor(key: str, tensor: Tensor) -> Field:
    if not tensor.shape:  # one value
        return structs.replace(_column(key, tensor), is_nullable=False, is_optional=tensor.optional)
    shape = " × ".join("n" if size < 0 else str(size) for size in tensor.shape)
    hint = f"{tensor.datatype}, {shape}: nested lists, as JSON"
    return Field(key, tensor.name, "json", hint, is_optional=tensor.optional)


def _with(field: Field, value: Any) -> Field:
    if value is LEFT_OUT:
        return structs.replace(field, value="")
    if field.is_truth:
        field = structs.replace(field, kind="boolean" if isinstance(value, bool) else "choice")
    if field.kind == "choice":
        same = [choice.value for choice in field.choices if json.loads(choice.value) == value]
        exact = json.dumps(value)
        return structs.replace(field, value=exact if exact in same else next(iter(same), ""))
    if field.kind == "json":
        return structs.replace(field, value=compact_json(value))
    return structs.replace(field, value=text_of(value), keeps_text=field.kind == "any" and isinstance(value, str))


def _kind(datatype: str) -> Kind:
    if datatype.startswith(("FP", "BF")):
        return "number"
    if datatype.startswith(("INT", "UINT")):
        return "integer"
    return KINDS.get(datatype, "any")


def _value_of(field: Field) -> Any:
    """Parse a field's text. Raises Unreadable."""
    is_empty = not (field.value if field.kind in ("text", "file") else field.value.strip())
    if is_empty and field.is_optional:
        return LEFT_OUT
    if is_empty and field.is_nullable:
        return None
    if is_empty and field.kind not in ("text", "file"):
        raise Unreadable("A value is required.")
    if field.keeps_text:
        return field.value
    if field.kind == "choice" and field.value not in [choice.value for choice in field.choices]:
        raise Unreadable(f"`{field.value[:40]}` is not one of the choices.")
    return READERS[field.kind](field.value)


def _body(form: Form, values: list[Any]) -> Any:
    named = {field.name: value for field, value in zip(form.fields, values, strict=True)}
    match form.way:
        case "named":
            return named
        case "row":
            return {"features": [values]}
        case "texts":
            return {form.key: values}
        case "object":
            return {form.key: named} if form.key else named
        case "record":
            return {form.key: [named]} if form.key else [named]
        case "tensors":
            return {"inputs": {name: value for name, value in named.items() if value is not LEFT_OUT}}
