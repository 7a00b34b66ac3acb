# Needs nothing but Python 3.11 or newer (another one than the first on PATH: make PYTHON=python3.12 test).

.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && exit; done; echo python3)
PIP := $(BIN)/python -m pip --disable-pip-version-check

# What is installed is noted in two files, so that a second run installs nothing and needs no network.
RUN := $(VENV)/.asyncrane-run
TEST := $(VENV)/.asyncrane-test
METADATA := pyproject.toml asyncrane/_version.py

.PHONY: help demo test kills rebases faults soak fuzz check bench clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(RUN) ## copy a fleet of synthetic images between two embedded registries
	@$(BIN)/asyncrane demo $(ARGS)

test: $(TEST) ## run the test suite (make test ARGS="-k login")
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

kills: $(TEST) ## kill -9 a run 50 times and resume it (in make test it is killed 4 times)
	@ASYNCRANE_KILLS=50 $(BIN)/python -m pytest tests/promises/test_killed.py $(ARGS)

rebases: $(TEST) ## rebase 500 images onto one base, whose layers move once (in make test there are 60 images)
	@ASYNCRANE_TEST_REBASES=500 $(BIN)/python -m pytest tests/promises/test_rebase.py $(ARGS)

faults: $(TEST) ## every fault at every request of every operation, and the table in README.md
	@ASYNCRANE_FAULTS=all ASYNCRANE_FAULTS_TABLE=README.md \
		$(BIN)/python -m pytest tests/faults tests/servers --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

soak: $(TEST) ## half an hour of mixed jobs with faults: nothing grows (ASYNCRANE_SOAK: seconds)
	@ASYNCRANE_SOAK=$${ASYNCRANE_SOAK:-1800} $(BIN)/python -m pytest tests/faults/test_soak.py $(ARGS)

fuzz: $(TEST) ## the property tests with a hundred times the examples (ASYNCRANE_FUZZ: how many)
	@ASYNCRANE_FUZZ=$${ASYNCRANE_FUZZ:-100} $(BIN)/python -m pytest tests/fuzz --numprocesses auto $(ARGS)

check: $(TEST) ## lint, formatting, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(TEST) ## measure against crane, skopeo, regsync and others (make bench ARGS="--scenario tiny")
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove caches and builds
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find asyncrane tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf $(VENV)

# An environment that is there is used; one whose interpreter has gone is made anew.
$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "asyncrane needs Python 3.11 or newer: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) \
		|| { rm -rf $(VENV); echo "$(PYTHON) cannot make an environment (Debian: install python3-venv)" >&2; exit 1; }

$(RUN): $(METADATA) | $(BIN)/python
	@echo "installing asyncrane into $(VENV)"
	@$(PIP) --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) install --quiet --editable .
	@touch $@

$(TEST): $(METADATA) | $(BIN)/python
	@echo "installing asyncrane and what its tests need into $(VENV)"
	@$(PIP) --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) install --quiet --editable '.[test]'
	@touch $(RUN) $@
