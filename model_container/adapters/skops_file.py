"""skops artifacts: estimators stored as a zip archive of types, arrays and plain values."""

from __future__ import annotations

from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.library_shims import adapt
from model_container.adapters.pickle import load_code
from model_container.contract.config import RuntimeConfig


def load_skops(config: RuntimeConfig) -> EstimatorAdapter:
    """Load a skops file, trusting all its types.

    Its types were listed before the file came here, and the owner agreed to the dangerous ones.
    """
    load_code(config.code)
    from skops.io import get_untrusted_types, load  # type: ignore[import-untyped]

    held = load(config.artifact, trusted=get_untrusted_types(file=config.artifact))
    return EstimatorAdapter(adapt(held), config.call)
