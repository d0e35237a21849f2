"""Measures this tool against the programs that do the same work: `make bench`. docs/performance.md explains its figures."""
