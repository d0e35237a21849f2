"""Exit codes of every command, as in docs/exit-codes.md."""

CONVERGED, FAILED, USAGE, REFUSED, CHANGES, UNPROVEN, DEGRADED = 0, 1, 2, 3, 4, 5, 6
"""As wanted; failed; wrong command line or site file; refused; a plan has changes; installed, but not verified, or (doctor)
not all could be checked; works, with less than it should have."""
