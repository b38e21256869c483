"""What an ONNX model's environment has on a GPU: one build of onnxruntime, and the right one."""

from __future__ import annotations

import pytest

from app.artifact.requirements import requirements_for, with_requirements
from app.core.environment import Requirements
from app.core.inspection import Format, Inspection, Pin

RUNTIME = Pin("onnxruntime", ">=1.17", "opset 20 of `ai.onnx` in the file is first taken by onnxruntime 1.17")
NUMPY = Pin("numpy", "", "onnxruntime takes and gives numpy arrays")


def requirements(
    user: str = "", gpu: bool = True, format: Format = Format.ONNX, runtime: Pin = RUNTIME
) -> Requirements:
    return requirements_for(
        Inspection(format, pins=(runtime, NUMPY)),
        user_requirements=user,
        python_version="",
        available_pythons=("3.11",),
        gpu=gpu,
    )


def test_a_gpu_asks_for_the_build_for_cuda_with_its_libraries() -> None:
    found = requirements()
    assert found.packages == ("onnxruntime-gpu[cuda,cudnn]>=1.17,>=1.21", "numpy")
    assert "`gpu` asks for" in found.pins[0].evidence
    assert found.gpu


def test_without_a_gpu_it_is_the_usual_build() -> None:
    found = requirements(gpu=False)
    assert found.packages == ("onnxruntime>=1.17", "numpy")
    assert not found.gpu


def test_a_version_from_the_model_is_kept() -> None:
    packages = requirements(runtime=Pin("onnxruntime", "==1.22.0", "requirements.txt asks for it")).packages
    assert packages[0] == "onnxruntime-gpu[cuda,cudnn]==1.22.0"
    marked = Pin("onnxruntime", '==1.22.0; python_version < "3.14"', "requirements.txt asks for it")
    assert requirements(runtime=marked).packages[0] == ('onnxruntime-gpu[cuda,cudnn]==1.22.0; python_version < "3.14"')


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("build", ["onnxruntime==1.23.2", "onnxruntime-gpu==1.23.2", "onnxruntime-openvino"])
def test_the_build_that_the_owner_names_is_the_only_one(build: str, gpu: bool) -> None:
    assert requirements(build, gpu).packages == (build, "numpy")


def test_a_build_named_in_a_requirements_file_is_the_only_one() -> None:
    pins = with_requirements((RUNTIME, NUMPY), "onnxruntime-gpu==1.23.2\n", "requirements.txt")
    assert [pin.requirement for pin in pins] == ["onnxruntime-gpu==1.23.2", "numpy"]


def test_only_one_build_of_xgboost_is_installed() -> None:
    pins = with_requirements((Pin("xgboost", "", "read"), NUMPY), "xgboost-cpu==3.2.0\n", "requirements.txt")
    assert [pin.requirement for pin in pins] == ["xgboost-cpu==3.2.0", "numpy"]


def test_other_formats_keep_what_they_need() -> None:
    assert requirements(format=Format.PICKLE).packages == ("onnxruntime>=1.17", "numpy")
