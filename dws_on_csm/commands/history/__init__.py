"""`invoke journal` and `invoke rollback`."""
