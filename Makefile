# Each target does all its own set-up: a virtual environment in .venv, the pinned packages, then the work.
PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= pace-runs
SEEDS ?= 3
PYTEST_ARGS ?= -q
TEST_PROCESSES ?= 2

BIN := $(VENV)/bin
STAMP := $(VENV)/installed
UNIT := $(BIN)/python -m

.PHONY: demo test slow faults lint format types unit docs clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing the pinned packages into $(VENV); PyTorch makes this a few minutes the first time.'
	$(UNIT) pip install -qq --editable '.[test]' --constraint constraints.txt
	touch $@

# A sweep of plain against pace on scikit-learn's digits, then the winner over several seeds on the test split.
demo: $(STAMP)
	$(BIN)/pace-tune sweep search_spaces/digits.yaml --output $(OUTPUT)
	$(BIN)/pace-tune confirm digits --seeds $(SEEDS) --output $(OUTPUT)
	@printf '\nOpen the dashboard:  %s/pace-tune ui --output %s\n' $(BIN) $(OUTPUT)

test: lint types unit

lint: $(STAMP)
	$(UNIT) ruff check .
	$(UNIT) ruff format --check .

format: $(STAMP)
	$(UNIT) ruff check --fix .
	$(UNIT) ruff format .

types: $(STAMP)
	$(UNIT) mypy

# Each test keeps to one thread; a file's tests stay together, for what they share.
unit: $(STAMP)
	$(UNIT) pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

# Minutes long: real processes started and killed, training to the published numbers.
slow: $(STAMP)
	$(UNIT) pytest $(PYTEST_ARGS) -m 'slow and not gpu'

# Every fault several times in one sweep; docs/reliability.md holds what it costs.
faults: $(STAMP)
	$(UNIT) pytest $(PYTEST_ARGS) -m faults

docs: $(STAMP)
	$(UNIT) pip install -qq --editable '.[docs]' --constraint constraints.txt
	NO_MKDOCS_2_WARNING=1 $(UNIT) mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache
