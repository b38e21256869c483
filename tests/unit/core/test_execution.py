"""What may be said of GPUs, execution providers and threads, and what is said of what may not."""

from __future__ import annotations

from typing import Any

import pytest

from app.config.loading import load_settings
from app.core.execution import ALL_GPUS, PROVIDERS, Execution, Gpus, parse_gpus, unknown_provider
from app.core.model_config import model_config
from app.errors import BadInput, InvalidSetting


@pytest.mark.parametrize(
    ("said", "meant", "shown"),
    [
        (True, Gpus(ALL_GPUS), True),
        ("true", Gpus(ALL_GPUS), True),
        ("all", Gpus(ALL_GPUS), True),
        (False, Gpus(), False),
        ("", Gpus(), False),
        ("off", Gpus(), False),
        (0, Gpus(), False),
        (2, Gpus(2), 2),
        ("2", Gpus(2), 2),
        (1, Gpus(1), 1),
        (["0", "GPU-fef8089b"], Gpus(ids=("0", "GPU-fef8089b")), ("0", "GPU-fef8089b")),
        ([0, 1], Gpus(ids=("0", "1")), ("0", "1")),
        ("device=0,1", Gpus(ids=("0", "1")), ("0", "1")),
    ],
)
def test_gpus_are_all_a_number_or_named_ids(said: Any, meant: Gpus, shown: Any) -> None:
    found = parse_gpus(said)
    assert found == meant
    assert found is not None
    assert (found.shown, type(found.shown)) == (shown, type(shown))
    assert bool(found) == bool(shown)


@pytest.mark.parametrize("said", [-2, 1000, [], ["0", "0"], ["a b"], "many", "device=", "1.5", None, {}])
def test_invalid_gpu_values_are_rejected(said: Any) -> None:
    assert parse_gpus(said) is None


def test_a_configuration_sets_gpus_providers_and_threads() -> None:
    config = model_config({"gpu": [0], "execution_providers": ["CUDAExecutionProvider"], "threads": 3})
    assert config.execution == Execution(Gpus(ids=("0",)), ("CUDAExecutionProvider",), 3)
    assert model_config({"gpu": True}).execution.gpus == Gpus(ALL_GPUS)
    assert model_config({"gpu": 1}).execution.gpus == Gpus(1)
    assert model_config({}).execution == Execution()


@pytest.mark.parametrize(
    ("document", "words", "hint"),
    [
        ({"gpu": "yes please"}, '`gpu: "yes please"`', ""),
        ({"gpu": -3}, "`gpu: -3`", "a number such as"),
        ({"gpu": []}, "`gpu: []`", "a list of ids"),
        ({"execution_providers": ["CudaExecutionProvidr"]}, "CudaExecutionProvidr", "CUDAExecutionProvider"),
        ({"execution_providers": ["cuda"]}, "cuda", "Did you mean CUDAExecutionProvider?"),
        ({"execution_providers": ["AbacusOfWoodenBeads"]}, "Abacus", "They are: CPUExecutionProvider"),
        ({"execution_providers": "CPUExecutionProvider"}, "execution_providers", ""),
        ({"threads": 0}, "`threads: 0`", ""),
    ],
)
def test_a_wrong_value_is_named(document: Any, words: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        model_config(document)
    assert words in refused.value.detail
    assert hint in refused.value.hint


def test_the_setting_names_a_misspelt_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_EXECUTION_PROVIDERS", "CUDAExecutionProvider, CPUExecutionProvidr")
    with pytest.raises(InvalidSetting, match="Did you mean CPUExecutionProvider"):
        load_settings()
    monkeypatch.setenv("PRISM_EXECUTION_PROVIDERS", "CUDAExecutionProvider, CPUExecutionProvider")
    assert load_settings().limits.execution_providers == ("CUDAExecutionProvider", "CPUExecutionProvider")


def test_onnxruntime_has_no_provider_that_the_list_lacks() -> None:
    import onnxruntime

    known_elsewhere = {
        "NnapiExecutionProvider",
        "VSINPUExecutionProvider",
        "JsExecutionProvider",
        "WebNNExecutionProvider",
    }
    assert set(onnxruntime.get_all_providers()) - known_elsewhere <= set(PROVIDERS)
    assert unknown_provider(PROVIDERS) is None
