"""What uv says, made into what PRISM says."""

from __future__ import annotations

import pytest

from app.errors import EnvironmentFailed
from app.runtime.packages.resolver import reason_of, uv_platform, without_nccl
from app.runtime.packages.uv import error_lines, hint_for


@pytest.mark.parametrize(
    "said",
    [
        [
            "Resolved nothing",
            "error: No solution found when resolving dependencies",
            "  cause: Because gone==9 is not on the index.",
            "hint: Try again",
        ],
        [
            "  × No solution found when resolving dependencies",
            "  ╰─▶ Because gone==9 is not on the index.",
        ],
    ],
)
def test_the_error_quotes_the_complaint_and_its_cause(said: list[str]) -> None:
    assert error_lines(said) == [
        "No solution found when resolving dependencies",
        "Because gone==9 is not on the index.",
    ]


@pytest.mark.parametrize(
    ("said", "next_step"),
    [
        ("invalid peer certificate: UnknownIssuer", "PIP_CERT"),
        ("HTTP status client error (401 Unauthorized)", "credentials"),
        ("tunnel error: HTTP/1.1 407 Proxy Authentication Required", "credentials"),
        ("error sending request for url", "PIP_INDEX_URL"),
        ("No space left on device (os error 28)", "disk"),
        ("there is no version of gone==1.401", "requirements"),
    ],
)
def test_each_cause_has_its_next_step(said: str, next_step: str) -> None:
    assert next_step in hint_for(said)


def test_the_reason_is_one_clause() -> None:
    failure = EnvironmentFailed(
        "`uv pip compile` failed: No solution found when resolving dependencies Because scikit-learn==1.0.2 has no "
        "usable wheels and you require scikit-learn==1.0.2, we can conclude that your requirements are unsatisfiable."
    )
    assert reason_of(failure) == "scikit-learn==1.0.2 has no usable wheels"


@pytest.mark.parametrize(
    ("platform", "architecture", "expected"),
    [
        ("linux", "x86_64", "x86_64-unknown-linux-gnu"),
        ("linux", "AMD64", "x86_64-unknown-linux-gnu"),
        ("linux", "arm64", "aarch64-unknown-linux-gnu"),
        ("linux", "aarch64", "aarch64-unknown-linux-gnu"),
        ("x86_64-manylinux_2_17", "arm64", "x86_64-manylinux_2_17"),
    ],
)
def test_a_container_has_the_cpu_architecture_of_its_machine(platform: str, architecture: str, expected: str) -> None:
    assert uv_platform(platform, architecture) == expected


@pytest.mark.parametrize(
    ("lock", "without"),
    [
        ("numpy==2.1\nnvidia-nccl-cu12==2.27\nxgboost==3.2.0\n", "numpy==2.1\nxgboost==3.2.0\n"),
        ("nvidia-nccl-cu12==2.27\ntorch==2.13.0\n", None),
        ("nvidia-cublas-cu12==12.8\nnvidia-nccl-cu12==2.27\ntorch==2.13.0\nxgboost==3.2.0\n", None),
        ("numpy==2.1\nxgboost==3.2.0\n", None),
    ],
)
def test_only_nvidia_packages_that_xgboost_alone_requires_are_left_out(lock: str, without: str | None) -> None:
    assert without_nccl(lock) == (without or lock)
