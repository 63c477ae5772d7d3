# make demo and make test do everything on a fresh machine: environment, packages, run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := embedded,documents,lora,llm,serve,qdrant,milvus,cpu,openvino,langchain,llamaindex,mteb,dev

.PHONY: demo test test-all lint install clean

demo: $(STAMP)
	$(BIN)/bessemer demo --out out/demo

# Unit and recipe tests, offline, on the CPU, a process per core and one thread in each: threads of several processes
# would wait for each other. BESSEMER_DATA=DIR adds those on real collections.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(STAMP)

# torch first and by itself: where a CPU build is provided, pip takes it and never looks at CUDA's gigabytes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf $(VENV) out .bessemer build dist .pytest_cache .mypy_cache .ruff_cache
