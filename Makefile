# `make demo` and `make test` do everything on a fresh machine: they set up first.
PY      ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV    ?= .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.ready
DEMO    ?= runs/demo

export UV_FIND_LINKS := $(PIP_FIND_LINKS)
export UV_LINK_MODE  ?= copy
export OMP_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE
JOBS    ?= 2

.PHONY: setup demo test test-slow check format bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       set up, run a real search on real digits, write a report and export the best network"
	@echo "make test       set up, run all tests (make test-slow: the long ones)"
	@echo "make check      format, lint, types, layer contracts"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PY) -m venv $(VENV)
	$(BIN)/pip install -q "uv>=0.9"
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e ".[tinyml]" --group dev
	@touch $@

demo: $(STAMP)
	$(BIN)/nasturtium search digits --space mobile --strategy evolution --trials 30 --epochs 10 \
	    --maximize accuracy --minimize macs \
	    --constraint "params <= 60k" --constraint "peak_memory <= 64KiB" \
	    --seed 0 --workers 2 --baseline random --references --study $(DEMO)/digits.db
	$(BIN)/nasturtium export $(DEMO)/digits.db -o $(DEMO)/best --overwrite
	$(BIN)/nasturtium report $(DEMO)/digits.db -o $(DEMO)/report.html

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	for part in space graph strategies training study; do $(BIN)/python benchmarks/$$part.py || exit 1; done

docs: $(STAMP)
	$(BIN)/pdoc nasturtium -o runs/reference --docformat google

clean:
	rm -rf $(VENV) runs
