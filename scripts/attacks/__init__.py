"""Attacks on a running PRISM, each of which counts what was held off and what was not; see scripts/attack."""
