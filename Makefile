# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With it every worker would rewrite all tests again, and each command that a test starts would compile the package.
unexport PYTHONDONTWRITEBYTECODE
# Tests wait for sockets and disks more than they compute.
JOBS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

# Where memory serves as a disk, test ledgers lie there: an fsync costs nothing, and no test is about power cuts.
RAM := $(shell test -w /dev/shm && test $$(df -Pm /dev/shm | awk 'NR==2 {print $$4}') -ge 2000 && echo /dev/shm)

SEARCH = --hypothesis-profile=search $(if $(SEED),--hypothesis-seed=$(SEED))

.PHONY: demo test rules lint long slow lock clean

demo: $(VENV)/demo.stamp
	$(BIN)/callbridge demo

test: $(VENV)/dev.stamp
	$(if $(RAM),TMPDIR=$(RAM)) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# The pure rules by their tables, in a few seconds: after a change of a rule, before all other tests.
RULES := tests/model tests/record $(addprefix tests/delivery/test_, outcome.py retry.py) \
	$(addprefix tests/reconcile/test_, coverage.py diff.py)
rules: $(VENV)/dev.stamp
	$(BIN)/python -m pytest $(RULES) $(ARGS)

# Format, lint, types and the import contract.
lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Whole programs through hard days: crashes, full disks, fuzz, real servers; and the search for new examples,
# which prints its seed (`make long SEED=5` repeats it).
long: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(JOBS) -m "(long or hypothesis) and not slow" $(SEARCH) $(ARGS)

# Soak, fuzz and crash rounds that take minutes.
slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow $(SEARCH) $(ARGS)

# New versions of what we stand on: lock files and software bill of materials, from pyproject.toml.
lock:
	PYTHON=$(PYTHON) deploy/lock.sh

# What tools have kept of earlier runs goes too.
clean:
	rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# What is installed is what the lock files name, each file with its hash, and nothing is built from source.
LOCKED := $(BIN)/python -m pip install --quiet --only-binary :all: --require-hashes --requirement
OURSELVES := $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .

$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/demo.stamp: $(VENV)/pip.stamp pyproject.toml deploy/requirements.txt
	$(LOCKED) deploy/requirements.txt
	$(OURSELVES)
	touch $@

$(VENV)/dev.stamp: $(VENV)/pip.stamp pyproject.toml deploy/requirements-dev.txt
	$(LOCKED) deploy/requirements-dev.txt
	$(OURSELVES)
	touch $@ $(VENV)/demo.stamp
