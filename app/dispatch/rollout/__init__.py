"""What becomes of the requests for a name under a rollout: split, rescued, copied, and counted as evidence."""
