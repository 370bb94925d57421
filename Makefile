# Two commands on a fresh machine: `make sweep` and `make test`. Both create .venv first.

PYTHON ?= python3
GRID ?= pilot
RESULTS ?= results
RUN := .venv/bin/python -m
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install sweep report tune test test-slow check baselines bench lint format clean

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Create .venv, install what is pinned in constraints.txt, compile the kernels

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt '.[dev]'
	@$(RUN) experiments.training.kernels.machine_code
	@touch $@

sweep: $(STAMP)  ## Run what is missing of a grid, then its tables and figures (GRID=pilot)
	@$(RUN) experiments sweep $(GRID) --results $(RESULTS) $(ARGS)

report: $(STAMP)  ## Tables and figures of a grid's stored runs (GRID=pilot)
	@$(RUN) experiments report $(GRID) --results $(RESULTS) $(ARGS)

tune: $(STAMP)  ## Tune the strategies of a grid on validation persons (GRID=pilot-tuned)
	@$(RUN) experiments tune $(if $(filter file,$(origin GRID)),pilot-tuned,$(GRID)) --results $(RESULTS) $(ARGS)

test: $(STAMP)  ## Run the tests
	$(RUN) pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(STAMP)  ## Run the longer checks that `make test` leaves out
	$(RUN) pytest -q -m slow $(ARGS)

check: $(STAMP)  ## Do the strategies still score what results/baselines/ says (ARGS=--quick)
	@$(RUN) experiments check --results $(RESULTS) $(ARGS)

baselines: $(STAMP)  ## Record what the strategies score now, and print what changed
	@$(RUN) experiments check --update --results $(RESULTS) $(ARGS)

bench: $(STAMP)  ## Time trainer, runs and sweep against the products alone and other frameworks
	@$(RUN) experiments bench $(ARGS)

lint: $(STAMP)  ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: $(STAMP)  ## Format the sources
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:  ## Remove .venv and caches (results are kept)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
