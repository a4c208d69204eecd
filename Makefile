# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for sockets and disks more than they compute.
JOBS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

.PHONY: demo test lint long slow clean

demo: $(VENV)/demo.stamp
	$(BIN)/callbridge demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# Format, lint, types and the import contract.
lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Whole programs through hard days: crashes, full disks, fuzz, real servers.
long: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(JOBS) -m "long and not slow" $(ARGS)

# Soak, fuzz and crash rounds that take minutes.
slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow $(ARGS)

clean:
	rm -rf $(VENV)

$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/demo.stamp: $(VENV)/pip.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/pip.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/demo.stamp
