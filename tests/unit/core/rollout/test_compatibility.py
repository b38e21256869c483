from __future__ import annotations

import pytest
from msgspec import structs

from app.core.rollout.compatibility import breaking_changes, told
from app.core.signature import Signature, Tensor

AGE, CITY = Tensor("age", "FP64", (-1,)), Tensor("city", "BYTES", (-1,))
LABEL = Tensor("predictions", "INT64", (-1,))
TABLE = Signature("table", (AGE, CITY), (LABEL,), named=True)
IMAGE = Signature("tensors", (Tensor("image", "FP32", (-1, 3, 8, 8)),), (LABEL,))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TABLE, TABLE),
        (TABLE, structs.replace(TABLE, inputs=(AGE,))),
        (TABLE, structs.replace(TABLE, inputs=(AGE, CITY, Tensor("job", "BYTES", (-1,), optional=True)))),
        (TABLE, structs.replace(TABLE, inputs=(CITY, structs.replace(AGE, datatype="INT64")))),
        (TABLE, structs.replace(TABLE, outputs=(LABEL, Tensor("score", "FP64", (-1,))))),
        (IMAGE, structs.replace(IMAGE, inputs=(Tensor("image", "FP32", (-1, 3, -1, -1)),))),
    ],
)
def test_what_callers_do_not_notice_breaks_nobody(before: Signature, after: Signature) -> None:
    assert breaking_changes(before, after) == ()


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (TABLE, IMAGE, "inputs: table became tensors"),
        (
            TABLE,
            structs.replace(TABLE, inputs=(AGE, CITY, Tensor("job", "BYTES", (-1,)))),
            "input job: new, and needed",
        ),
        (TABLE, structs.replace(TABLE, inputs=(AGE, Tensor("city", "INT64", (-1,)))), "input city: BYTES became INT64"),
        (TABLE, structs.replace(TABLE, outputs=()), "output predictions: gone"),
        (
            structs.replace(TABLE, named=False),
            structs.replace(TABLE, named=False, inputs=(AGE,)),
            "inputs: 2 columns became 1",
        ),
        (
            structs.replace(TABLE, methods=("predict", "predict_proba")),
            TABLE,
            "method predict_proba: gone",
        ),
        (
            structs.replace(TABLE, inputs=(structs.replace(AGE, optional=True),)),
            structs.replace(TABLE, inputs=(AGE,)),
            "input age: needed now",
        ),
        (
            IMAGE,
            structs.replace(IMAGE, inputs=(Tensor("image", "FP32", (-1, 1, 8, 8)),)),
            "input image: shape [-1, 3, 8, 8] became [-1, 1, 8, 8]",
        ),
        (IMAGE, structs.replace(IMAGE, inputs=(Tensor("picture", "FP32", (-1, 3, 8, 8)),)), "input image: gone"),
    ],
)
def test_what_callers_break_on_is_named(before: Signature, after: Signature, change: str) -> None:
    assert change in breaking_changes(before, after)


def test_of_many_changes_the_first_are_told() -> None:
    assert told(tuple(f"input x{number}: gone" for number in range(12))).endswith("input x7: gone; and 4 more")
