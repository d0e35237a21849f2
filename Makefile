# make demo | test | check | setup. Python packages go into .venv, builds into the cache, programs come from apt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Two workers have a lab each; the third runs tests that need no lab while the others wait for pods.
# A lab takes up to 4 GiB of memory, and some test files boot one more.
WORKERS ?= $(shell awk '/^MemAvailable/ {print ($$2 > 13000000) ? 3 : ($$2 > 9000000) ? 2 : 1}' /proc/meminfo)
PYTEST := $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

# Tests start the tool hundreds of times: without its bytecode each start compiles all of it, which users' machines do once.
export PYTHONDONTWRITEBYTECODE =

# Parallel make would run checks and tests at the same time, and mix their output.
.NOTPARALLEL:
.PHONY: help setup demo test matrix fast unit nights faults soak sites mutants bench tools parts check lint format types completion clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with all Python packages (as root also installs missing apt packages)

$(READY): pyproject.toml constraints.txt bin/setup.sh bin/invoke_start.py
	sh bin/setup.sh $(PYTHON) $(VENV)
	touch $@

demo: $(READY) ## Boot a site in a box, install DWS on it, and prove it with a job
	$(BIN)/invoke demo

test: $(READY) check tools parts ## Run all tests, also those on the lab, but for the long ones of `make matrix`
	$(PYTEST) -m 'not matrix'

matrix: $(READY) tools parts ## Run all tests on the lab, also the long ones, and every row of every table (some two hours)
	$(PYTEST) tests/lab

fast: $(READY) tools ## Run the tests that take a minute together
	$(PYTEST) --numprocesses=2 -m 'not lab and not slow'

unit: $(READY) tools ## Run all tests that need no lab (about 12 minutes)
	$(PYTEST) -m 'not lab'

nights: $(READY) parts ## Break a site in every way of tests/lab/test_nights.py, type each fix as it stands (K=WORDS: only some)
	NIGHTS=1 $(BIN)/pytest -n 0 tests/lab/test_nights.py $(if $(K),-k "$(K)")

faults: $(READY) parts ## Break a lab at every step of an install in every way of tests/faults (hours; ARGS="--count 12", docs/faults.md)
	$(BIN)/python -m tests.faults $(ARGS)

soak: $(READY) parts ## Simulate several days of a site in an hour: acts and faults in random order, while users' jobs run (ARGS="--seed 1")
	$(BIN)/python -m tests.soak $(ARGS)

sites: $(READY) tools ## Try forms of ssh, login shells and sudo that real sites have, and compare with their own programs
	$(BIN)/pytest --numprocesses=3 --dist=loadfile tests/sites tests/ssh/test_login_shells.py tests/ssh/test_sudo_settings.py

mutants: $(READY) tools ## Change one place of the code at a time, and report changes that no test notices (as root; 20 minutes)
	$(BIN)/python -m tests.mutants

bench: $(READY) tools ## Measure the speed against ssh, pyinfra, Ansible and Fabric (as root; ARGS="A --hosts 8", docs/performance.md)
	$(BIN)/python -m bench $(ARGS)

parts: $(READY) ## Build the parts of labs into the cache (15 minutes the first time)
	$(BIN)/invoke lab.build --name test

tools: ## Install the programs that tests call: sshd, sudo, Lua, ...
	sh tests/tools.sh

check: lint types ## Check style, formatting, imports, types

lint: $(READY) ## Check style and formatting (ruff), and which room imports which (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

format: $(READY) ## Fix style and formatting (ruff)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY) ## Check types (mypy, strict)
	$(BIN)/mypy tasks.py fabfile.py bin dws_on_csm lab tests docs bench

clean: ## Remove .venv; labs and the cache stay
	rm -rf $(VENV)
