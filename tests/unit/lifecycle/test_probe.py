"""What a model's owner reads when it does not answer the sample that he gave."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.inspection import Format, Inspection
from app.core.model import Artifact, ModelVersion, PredictContract, Tensor
from app.errors import ProbeFailed
from app.lifecycle.probe import probe
from model_container.contract.frames import Answer, Request
from tests.records import model_version

INPUTS = 'inputs: {"city": BYTES, "age": FP64, "vip": BOOL, "joined": DATETIME}'
ROW = {"city": "Oslo", "age": 30, "vip": True, "joined": "2024-01-02"}


class Refusing:
    """A connection to a replica whose model rejects every input."""

    async def predict(self, request: Request) -> Answer:
        return Answer(b'{"detail": "TypeError: str - Timestamp"}', status=422)

    async def ping(self) -> Any:
        raise NotImplementedError

    async def convert(self) -> tuple[bytes, bytes]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def model(sample: Any, format: Format = Format.JOBLIB, **facts: Any) -> ModelVersion:
    artifact, inspection = Artifact("m.joblib", "0" * 64, 1), Inspection(format)
    return model_version("m1", "m", "1.0.0", artifact, "2026", expected_input=sample, inspection=inspection, **facts)


async def hint_of(version: ModelVersion) -> str:
    with pytest.raises(ProbeFailed) as failed:
        await probe(version, Refusing(), [])
    return str(failed.value.hint)


@pytest.mark.parametrize("sample", [ROW, [ROW]])
async def test_dates_of_a_refused_sample_come_with_the_line_that_declares_them(sample: Any) -> None:
    hint = await hint_of(model(sample))
    assert "`joined`" in hint
    assert INPUTS in hint


@pytest.mark.parametrize(
    "sample", [{"age": 30, "code": "20240102"}, [[1, 2]], [], {"joined": "2024-01-02", "tags": [1]}]
)
async def test_a_sample_without_dates_or_that_is_no_row_says_nothing_of_them(sample: Any) -> None:
    assert "DATETIME" not in await hint_of(model(sample))


async def test_nothing_is_said_of_dates_where_the_inputs_are_known() -> None:
    assert "DATETIME" not in await hint_of(model(ROW, Format.ONNX))
    calling = PredictContract(inputs=(Tensor("joined", "DATETIME", (-1,)),))
    assert "DATETIME" not in await hint_of(model(ROW, calling=calling))
