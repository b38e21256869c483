"""Some of the ONNX project's own backend tests from their file to their answers over HTTP.

All of them: scripts/onnx_conformance.py --gateway URL. Through the runtime's own code: tests/onnx_backend.
"""

from __future__ import annotations

import pytest

from scripts.onnx_backend.cases import cases, reference
from scripts.onnx_backend.gateway import Gateway
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT

pytestmark = pytest.mark.slow

CASES = (
    "test_add",  # three dimensions
    "test_castlike_FLOAT_to_BFLOAT16",  # bfloat16, infinities and a tensor that holds nothing
    "test_constant",  # no inputs
    "test_identity_opt",  # an optional sequence
    "test_lstm_with_peepholes",  # eight inputs
    "test_sequence_map_extract_shapes",  # sequences in and out
    "test_string_concat",  # strings
    "test_top_k",  # two outputs of different types
)


def test_cases_of_every_kind_are_answered_over_http(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process")
    by_name = {case.name: case for case in cases()}
    with Gateway(server.url) as gateway:
        for name in CASES:
            gateway.check(reference(by_name[name]))


def test_a_model_tells_what_it_computes_on_and_has_the_threads_of_its_cpu_limit(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_MODEL_CPUS="3")
    server.deploy(CHECKOUT / "model_store" / "samples" / "iris" / "iris.onnx", model_name="iris")
    facts = server.model("iris")["runtime"]["execution"]
    assert facts == {"execution_providers": ["CPUExecutionProvider"], "threads": 3, "joins_requests": True}
