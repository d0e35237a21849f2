# make demo | test | check | setup. Everything that is installed goes into .venv, the cache, or comes from apt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Two workers have a lab of their own, the third one has what needs none: while some wait for pods, another is at work.
# A lab takes up to 4 GiB of memory, and some files bring up one more.
WORKERS ?= $(shell awk '/^MemAvailable/ {print ($$2 > 13000000) ? 3 : ($$2 > 9000000) ? 2 : 1}' /proc/meminfo)
PYTEST := $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

# Parallel make would run style and tests at once, and mix what they print.
.NOTPARALLEL:
.PHONY: help setup demo test fast mutants tools parts check lint format types completion clean

help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install what is needed into .venv (apt packages too, where this runs as root)

$(READY): pyproject.toml constraints.txt lab/setup.sh
	sh lab/setup.sh $(PYTHON) $(VENV)
	touch $@

demo: $(READY) ## A site in a box, DWS installed on it, proven by a job
	$(BIN)/invoke demo

test: $(READY) check tools parts ## All tests, those on the lab included
	$(PYTEST)

fast: $(READY) tools ## The tests that need no lab
	$(PYTEST) -m 'not lab'

mutants: $(READY) tools ## Change the code in one place at a time, and see whether its tests notice (as root; 20 minutes)
	$(BIN)/python -m tests.mutants

parts: $(READY) ## What labs are made of, built into the cache (15 minutes the first time)
	$(BIN)/invoke lab.build --name test

tools: ## The programs that tests call: sshd, sudo, Lua, ...
	sh tests/tools.sh

check: lint types ## Style, formatting, types

lint: $(READY) ## Style and formatting (ruff), and which room may import which (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

format: $(READY) ## ruff: put style and formatting right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY) ## mypy, strict
	$(BIN)/mypy tasks.py fabfile.py dws_on_csm lab tests docs

clean: ## Take the environment away; the lab and the cache stay
	rm -rf $(VENV)
