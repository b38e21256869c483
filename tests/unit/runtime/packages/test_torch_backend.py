"""Which build of PyTorch is asked for, and who has the last word on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.environment import Lock
from app.errors import EnvironmentFailed
from app.runtime.packages import torch_backend
from app.runtime.packages.index import translate
from tests.integration.package_index_lab import forget_configuration


@pytest.mark.parametrize(
    "environ",
    [
        {"PIP_INDEX_URL": "https://pypi.corp.example/simple"},
        {"PIP_EXTRA_INDEX_URL": "https://pypi.corp.example/simple"},
        {"PIP_FIND_LINKS": "/wheels"},
        {"PIP_NO_INDEX": "1"},
        {"UV_DEFAULT_INDEX": "https://pypi.corp.example/simple"},
        {"UV_TORCH_BACKEND": "cu130"},
        {"UV_TORCH_BACKEND": ""},
        {"UV_CONFIG_FILE": "/etc/uv.toml"},
    ],
)
def test_a_configured_package_source_takes_precedence_over_the_torch_backend(environ: dict[str, str]) -> None:
    assert translate(environ, {}).brings_torch


def test_a_proxy_or_a_certificate_is_not_a_package_source() -> None:
    environ = {"HTTPS_PROXY": "http://p:3128", "PIP_CERT": "/ca.pem", "PIP_DEFAULT_TIMEOUT": "9", "PIP_NO_INDEX": "0"}
    assert not translate(environ, {}).brings_torch


def test_the_cpu_build_is_the_default_and_a_gpu_selects_the_fitting_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget_configuration(monkeypatch, tmp_path)
    assert torch_backend.resolve_arguments(gpu=False) == ("--torch-backend", "cpu")
    assert torch_backend.resolve_arguments(gpu=True) == ("--torch-backend", "auto")
    monkeypatch.setenv("UV_TORCH_BACKEND", "")
    assert torch_backend.resolve_arguments(gpu=False) == ()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("numpy==2.4.6\ntorch==2.13.0+cpu\n", ("--torch-backend", "cpu")),
        ("torch==2.13.0+cu130\ntorchvision==0.28.0+cu130\n", ("--torch-backend", "cu130")),
        ("torch==2.13.0+rocm6.4\n", ("--torch-backend", "rocm6.4")),
        ("torch==2.13.0\n", ()),
        ("numpy==2.4.6\nnot-torch==1+cpu\n", ()),
    ],
)
def test_the_resolved_build_is_the_installed_build(
    text: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget_configuration(monkeypatch, tmp_path)
    assert torch_backend.install_arguments(Lock("3.11", text)) == arguments
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    assert torch_backend.install_arguments(Lock("3.11", text)) == ()


CUDA = "torch==2.14.0\nnvidia-cublas-cu12==12.8.4\nnvidia-nccl-cu12==2.27.3\n"


@pytest.mark.parametrize(
    ("text", "needs_gpu"),
    [
        (CUDA, True),
        ("torch==2.14.0+cu130\n", True),
        ("torch==2.13.0+cpu\nnvidia-cublas-cu12==12.8.4\n", False),
        ("torch==2.13.0\n", False),  # as on a Mac
        ("torch==2.13.0\nnvidia-nccl-cu12==2.27.3\nxgboost==3.1.0\n", False),
        ("nvidia-cublas-cu12==12.8.4\n", False),
    ],
)
def test_a_build_for_a_gpu_is_known_by_its_version_or_its_libraries(text: str, needs_gpu: bool) -> None:
    assert torch_backend.needs_gpu(text) is needs_gpu


async def test_libraries_compiled_against_pytorch_are_asked_for_in_its_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget_configuration(monkeypatch, tmp_path)
    text = "torch==2.14.0+cpu\ntorchaudio==2.14.0\ntorchvision==0.29.0\n"
    of_processor = text.replace(".0\n", ".0+cpu\n")
    asked: list[tuple[str, ...]] = []
    found: list[str] = []
    log: list[str] = []

    async def ask(arguments: tuple[str, ...], constraints: tuple[str, ...]) -> str:
        asked.append((*arguments, *constraints))
        if not found:
            raise EnvironmentFailed("No solution.")
        return found[0]

    async def chosen(text: str) -> str:
        asked.clear()
        return await torch_backend.with_libraries_for_processor(text, ask, log.append)

    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://pypi.corp.example/simple")
    assert await chosen(text) == text
    assert asked == [("--torch-backend", "cpu")]
    assert "no build of torchaudio and torchvision for the processor was found" in log[-1]
    found.append(of_processor)
    assert torch_backend.install_arguments(Lock("3.11", await chosen(text))) == ("--torch-backend", "cpu")
    assert Lock("3.11", await chosen(text)).packages == tuple(of_processor.split())
    for enough in (of_processor, "torch==2.14.0\ntorchvision==0.29.0\n", "torch==2.14.0+cpu\n"):
        assert await chosen(enough) == enough
        assert asked == []
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.corp.example/simple")
    assert await chosen(text) == text
    assert asked == [], "nothing goes past an index that replaces the usual one"
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("UV_TORCH_BACKEND", "")
    assert await chosen(text) == text
    assert asked == []


async def test_pytorchs_own_index_is_asked_only_where_the_usual_one_is_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget_configuration(monkeypatch, tmp_path)
    asked: list[tuple[str, ...]] = []

    async def ask(arguments: tuple[str, ...], constraints: tuple[str, ...]) -> str:
        asked.append((*arguments, *constraints))
        if not arguments:
            raise EnvironmentFailed("No solution.")
        return "torch==2.14.0+cpu\n"

    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://pypi.corp.example/simple")
    text = await torch_backend.without_gpu(CUDA, ["torch"], ask)
    assert asked == [("nvidia-cublas-cu12<0", "nvidia-nccl-cu12<0"), ("--torch-backend", "cpu")]
    assert torch_backend.install_arguments(Lock("3.11", text)) == ("--torch-backend", "cpu")
    assert Lock("3.11", text).packages == ("torch==2.14.0+cpu",)
    assert await torch_backend.without_gpu(CUDA, ["torch==2.14.0+cu130"], ask) == CUDA, "its owner asks for it"
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.corp.example/simple")
    with pytest.raises(EnvironmentFailed, match=r"PyTorch 2\.14\.0 for GPUs alone"):
        await torch_backend.without_gpu(CUDA, ["torch"], ask)
    monkeypatch.setenv("UV_TORCH_BACKEND", "")
    assert await torch_backend.without_gpu(CUDA, ["torch"], ask) == CUDA
