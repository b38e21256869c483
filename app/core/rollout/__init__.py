"""Rollouts as values, and the pure decisions about them: evidence in, verdict out. No clock, no I/O."""
