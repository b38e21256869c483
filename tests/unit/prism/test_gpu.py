"""How the SDK asks for GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.core.execution import ALL_GPUS, Gpus, parse_gpus
from prism.cli.models import gpus as shown
from prism.requests import deploy
from prism.responses import Model, record


@pytest.mark.parametrize(
    ("asked", "sent", "meant"),
    [
        (True, "true", Gpus(ALL_GPUS)),
        (2, "2", Gpus(2)),
        (["0", "GPU-fef8089b"], "device=0,GPU-fef8089b", Gpus(ids=("0", "GPU-fef8089b"))),
    ],
)
def test_what_is_asked_for_is_what_the_server_reads(asked: bool | int | Sequence[str], sent: str, meant: Gpus) -> None:
    form = deploy("model.onnx", gpu=asked).form
    assert form is not None
    assert form.fields["gpu"] == sent
    assert parse_gpus(sent) == meant


def test_without_the_option_the_form_has_no_gpu_field() -> None:
    for form in (deploy("model.onnx").form, deploy("model.onnx", gpu=False).form):
        assert form is not None
        assert "gpu" not in form.fields


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (False, None),
        (None, None),
        (True, "all GPUs of the engine"),
        (2, "2"),
        (["0", "GPU-fef8089b"], "0, GPU-fef8089b"),
    ],
)
def test_the_command_line_says_which_each_replica_is_given(gpu: object, said: str | None) -> None:
    assert shown(record(Model, {"model_id": "m", "gpu": gpu})) == said
