"""Rollouts as they act: what begins, judges, promotes and rolls back."""
