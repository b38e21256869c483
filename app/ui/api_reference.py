"""Reference of the API as a page: the operations of its OpenAPI description, in groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from app.ui.pages import as_json

GROUPS = (
    # tag, title
    ("predict", "Predict"),
    ("models", "Models"),
    ("rollouts", "Rollouts"),
    ("Open Inference Protocol V2", "Open Inference Protocol V2"),
    ("KServe V1", "KServe V1"),
    ("MLflow", "MLflow"),
    ("share", "Share"),
    ("keys", "API keys"),
    ("registry", "Registry"),
    ("server", "Server"),
)


class Value(Struct, frozen=True):
    """Parameter or field. place: "path", "query", "header", or the media type of the body it is in."""

    name: str
    place: str
    type: str
    required: bool
    description: str


class Operation(Struct, frozen=True):
    """One method of one path. examples: titles and texts of request bodies. answers: what is returned, by status.

    values: without parts of the path that need no description. values_of: an earlier operation that has the same
    values, where they are many; then `values` is empty.
    """

    id: str
    method: str
    path: str
    summary: str
    description: str
    values: Sequence[Value]
    examples: Sequence[tuple[str, str]]
    answers: Sequence[tuple[str, str]]
    values_of: Operation | None = None


LONG_VALUES = 12
"""From so many on, the values of several operations are shown once."""


def reference(document: Mapping[str, Any]) -> list[tuple[str, list[Operation]]]:
    """Return the groups as (title, operations). document: the OpenAPI description."""
    by_tag: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            by_tag.setdefault(described["tags"][0], []).append(operation(document, path, method, described))
    titles = dict(GROUPS)
    order = [*titles, *(tag for tag in by_tag if tag not in titles)]
    seen: list[Operation] = []
    return [(titles.get(tag, tag), [briefly(each, seen) for each in by_tag[tag]]) for tag in order if tag in by_tag]


def briefly(operation: Operation, seen: list[Operation]) -> Operation:
    """Return the operation without values that are many and the same as those of one before it. seen: those."""
    if len(operation.values) >= LONG_VALUES:
        for earlier in seen:
            if earlier.values == operation.values:
                return structs.replace(operation, values=(), values_of=earlier)
        seen.append(operation)
    return operation


def operation(document: Mapping[str, Any], path: str, method: str, described: Mapping[str, Any]) -> Operation:
    bodies = described.get("requestBody", {}).get("content", {})
    values = *parameters(document, described), *fields(document, bodies)
    return Operation(
        id=described["operationId"],
        method=method.upper(),
        path=path,
        summary=described.get("summary", ""),
        description=described.get("description", ""),
        values=[value for value in values if value.place != "path" or value.description],
        examples=list(examples(document, bodies)),
        answers=[(status, answer["description"]) for status, answer in described["responses"].items()],
    )


def parameters(document: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[Value]:
    for one in described.get("parameters", ()):
        schema = resolved(document, one.get("schema", {}))
        description = one.get("description") or schema.get("description", "")
        yield Value(one["name"], one["in"], type_of(document, schema), one.get("required", False), description)


def fields(document: Mapping[str, Any], bodies: Mapping[str, Any]) -> Iterator[Value]:
    """Yield the fields of the request bodies that have any."""
    for media_type, body in bodies.items():
        schema = resolved(document, body.get("schema", {}))
        for name, one in schema.get("properties", {}).items():
            of_field = resolved(document, one)
            is_required = name in schema.get("required", ())
            yield Value(name, media_type, type_of(document, of_field), is_required, of_field.get("description", ""))


def examples(document: Mapping[str, Any], bodies: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the example bodies as texts."""
    for media_type, body in bodies.items():
        of_schema = resolved(document, body.get("schema", {})).get("examples", ())
        alone = [body["example"]] if "example" in body else of_schema
        for example in alone:
            yield media_type, text_of(example)
        for title, example in body.get("examples", {}).items():
            yield title, text_of(example.get("value"))


def text_of(example: Any) -> str:
    return example if isinstance(example, str) else as_json(example, 0)


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference to a schema of the document."""
    target = schema.get("$ref")
    if target is None:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][target.rpartition("/")[2]]
    return found


def type_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a schema's type in a word or two."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(document, resolved(document, one)) for one in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {type_of(document, resolved(document, schema.get('items', {})))}"
    if schema.get("format") == "binary":
        return "file"
    return str(schema.get("type", "any"))
