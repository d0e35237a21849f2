"""`invoke doctor`."""
