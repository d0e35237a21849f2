"""`invoke verify --cancel`."""
