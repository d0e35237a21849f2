"""`invoke logs`."""
