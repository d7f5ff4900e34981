# make repro: the whole pipeline on the embedded zoo.  make test: lint and tests.  Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The newest torch for Linux brings gigabytes of CUDA packages; TORCH="torch" takes it, for machines with a GPU.
TORCH ?= torch==2.13.0
# Nothing is to be fetched from a hub here, and nothing told to anyone.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true TOKENIZERS_PARALLELISM=false

.PHONY: repro test lint lock clean
repro: $(VENV)/.installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(OFFLINE) dvc repro

test: lint
	$(OFFLINE) $(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Accept the code as it is now: rewrites karma.lock.json.
lock: $(VENV)/.installed
	$(BIN)/karma lock

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf data metrics plots .karma
