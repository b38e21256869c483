"""The reference of the API is written from its description, and leaves no operation out."""

from __future__ import annotations

from typing import Any

from app.ui.api_reference import LONG_VALUES, reference

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/things/{name}": {
            "post": {
                "tags": ["things"],
                "operationId": "make",
                "summary": "Make a thing",
                "parameters": [
                    {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "deep", "in": "query", "schema": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
                ],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Thing"},
                            "examples": {"small": {"value": {"size": 1}}},
                        }
                    }
                },
                "responses": {"201": {"description": "Made"}},
            }
        },
        "/predict": {"post": {"tags": ["predict"], "operationId": "p", "responses": {}}},
    },
    "components": {
        "schemas": {
            "Thing": {
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "description": "In metres."},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "kind": {"enum": ["a", "b"]},
                },
            }
        }
    },
}


def test_every_operation_is_in_a_group_and_predictions_come_first() -> None:
    assert [(title, [one.id for one in group]) for title, group in reference(DOCUMENT)] == [
        ("Predict", ["p"]),
        ("things", ["make"]),
    ]


def test_an_operation_tells_its_parameters_its_body_and_its_answers() -> None:
    (make,) = dict(reference(DOCUMENT))["things"]
    told = [(one.name, one.place, one.type, one.required, one.description) for one in make.values]
    assert told == [
        ("deep", "query", "integer or null", False, ""),
        ("size", "application/json", "integer", True, "In metres."),
        ("tags", "application/json", "list of string", False, ""),
        ("kind", "application/json", "a or b", False, ""),
    ]
    assert make.examples == [("small", '{"size":1}')]
    assert make.answers == [("201", "Made")]


def test_many_values_are_told_once_for_all_operations_that_take_the_same() -> None:
    many = [{"name": f"v{number}", "in": "query", "schema": {"type": "string"}} for number in range(LONG_VALUES)]
    described = {"tags": ["things"], "parameters": many, "responses": {}}
    paths = {f"/{name}": {"get": {**described, "operationId": name}} for name in ("first", "second")}
    paths["/third"] = {"get": {**described, "operationId": "third", "parameters": many[:-1]}}
    first, second, third = dict(reference({"paths": paths}))["things"]
    assert (len(first.values), first.values_of) == (LONG_VALUES, None)
    assert (list(second.values), second.values_of) == ([], first)
    assert (len(third.values), third.values_of) == (LONG_VALUES - 1, None)
