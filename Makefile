# Thin on purpose: the logic is in Python. Every verb works on a fresh checkout and installs what it needs.
PYTHON ?= python3
PORT ?= 7420
DATA ?= data
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check fix gen clean venv
.DELETE_ON_ERROR:

venv: $(STAMP)

# Neither venv's own pip nor ensurepip is needed: Debian ships Python and pip without them.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install --quiet \
		--constraint constraints.txt --editable '.[server,dev]'
	touch $@

# On a terminal the service gets a process group of its own: Ctrl-C is then its alone, it hands over
# and leaves with 0, and so does make, which would otherwise report an interrupt.
run: $(STAMP)
	@set -- $(BIN)/seqctl up --data $(DATA) --listen 127.0.0.1:$(PORT); \
	if [ -t 0 ]; then exec bash -mc '"$$@"; exit $$?' run "$$@"; else exec "$$@"; fi

test: check
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/*/
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(BIN)/python proto/generate.py --check

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w proto

gen: $(STAMP)
	$(BIN)/python proto/generate.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
