"""PRISM's own benchmark: one file a scenario, run by `scripts/bench.py`."""
