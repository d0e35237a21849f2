"""Mutation tests: the code is changed in one place, and its tests must notice. `make mutants`; not part of `make test`."""
