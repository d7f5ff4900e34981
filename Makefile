# make repro: the whole pipeline on the embedded zoo.  make test: lint and tests.  Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
# On Linux the public index gives torch with CUDA: 6.2 GB in all. PyTorch's own index has the CPU build (2.3 GB):
#   make TORCH_INDEX=https://download.pytorch.org/whl/cpu repro
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Nothing is to be fetched from a hub here, and nothing told to anyone.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true TOKENIZERS_PARALLELISM=false

# The zoo's models are so small that a second thread gains little, and last bits of weights depend on their number.
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: repro test lint coverage docs dist lock clean
repro: $(VENV)/.installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(OFFLINE) $(ONE_THREAD) dvc repro

# Two processes of one thread each are faster than one of two: 12 minutes on 2 cores.
test: lint
	$(OFFLINE) $(ONE_THREAD) $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

# The tests with the share of lines that they run, by module.
coverage: $(VENV)/.installed
	$(OFFLINE) $(BIN)/python -m pytest --cov --cov-report=term

# The reference from the code, and the site in site/ (`make test` fails where either would change or warn).
docs: $(VENV)/.installed
	$(BIN)/python scripts/reference.py
	$(BIN)/mkdocs build --strict

# sdist and wheel in dist/, as a release uploads them.
dist: $(VENV)/.installed
	$(BIN)/python -m build

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/rooms.py

# Accept the code as it is now: rewrites karma.lock.json.
lock: $(VENV)/.installed
	$(BIN)/karma lock

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$(TORCH)"
	$(PIP) -e ".[dev]"
	@touch $@

clean:
	rm -rf data metrics plots .karma
