"""Back to how things were before a run."""
