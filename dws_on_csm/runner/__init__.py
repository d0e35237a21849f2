"""One run, from its first connection to its exit code."""
